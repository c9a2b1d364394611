"""The attempts of a run along a line of time: how long each took, what it saved, where things went wrong. Pure."""

from __future__ import annotations

import math
import time

from conf.outcome import State
from launcher.figures import svg
from launcher.report.story import Event, Story
from launcher.show import units
from launcher.show.why_page import WORDS
from launcher.why.timeline import AttemptStory

WIDTH, ROW, LEFT, TOP, BOTTOM = 940.0, 26.0, 90.0, 10.0, 30.0
KINDS = {State.done: "c2", State.failed: "bad", State.running: "c0", State.preempted: "warning", State.time_limit: "c0"}
MOST = 40
MARKS = {"checkpoint": "c0", "warning": "best"}


def timeline_picture(story: Story, now: float) -> str:
    """A bar an attempt; marks where it saved and where it was warned. Nothing without a time of start."""
    attempts = [each for each in story.diagnosis.stories if each.started][-MOST:]
    if not attempts:
        return ""
    first = min(each.started or now for each in attempts)
    last = max(max(_end(each, story, now) for each in attempts), first + 1)
    height = TOP + ROW * len(attempts) + BOTTOM
    body = _ticks(first, last, height)
    body += [part for place, each in enumerate(attempts) for part in _row(each, story, place, first, last, now)]
    return svg.picture(body, WIDTH, height, f"{len(attempts)} attempts over {units.duration(last - first)}")


def _end(attempt: AttemptStory, story: Story, now: float) -> float:
    if attempt.ended:
        return attempt.ended
    own = [event.time for event in story.events if event.attempt == attempt.number]
    return (
        now
        if story.standing.live and attempt is story.diagnosis.stories[-1]
        else max(own, default=attempt.started or now)
    )


def _x(at: float, first: float, last: float) -> float:
    return LEFT + (WIDTH - LEFT - 10) * min(1.0, max(0.0, (at - first) / (last - first)))


def _row(attempt: AttemptStory, story: Story, place: int, first: float, last: float, now: float) -> list[str]:
    top, start, end = TOP + ROW * place, attempt.started or first, _end(attempt, story, now)
    left, right = _x(start, first, last), _x(end, first, last)
    live = story.standing.live and attempt is story.diagnosis.stories[-1]
    state = State.running if live else attempt.state
    word = WORDS.get(state, state.value) if state else "no word"
    what = f"{word}, {units.duration(end - start)}"
    title = f"attempt {attempt.number}: {what}{f': {attempt.reason}' if attempt.reason else ''}"
    kind = KINDS.get(state, "other") if state else "other"
    parts = [
        svg.text(LEFT - 8, top + 16, f"attempt {attempt.number}", "end"),
        svg.rectangle(
            left, top + 3, max(2.0, right - left), ROW - 8, f"{kind} soft-bar", title, ' rx="3" fill-opacity=".35"'
        ),
    ]
    fits_inside = right - left > 7 * len(what) + 12
    fits_after = right + 7 * len(what) < WIDTH
    if fits_inside or fits_after:
        parts.append(svg.text(left + 6 if fits_inside else right + 6, top + 16, what))
    own = [event for event in story.events if event.attempt == attempt.number and event.kind in MARKS]
    return parts + [_mark(event, _x(event.time, first, last), top + ROW - 6) for event in own]


def _mark(event: Event, x: float, y: float) -> str:
    return svg.circle(x, y, 3, MARKS[event.kind], event.words)


def _ticks(first: float, last: float, height: float) -> list[str]:
    """Times of day below, at round distances."""
    span = last - first
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
    apart = next((step for step in steps if span / step <= 7), 86400 * math.ceil(span / 86400 / 7))
    offset = time.localtime(first).tm_gmtoff
    at = math.ceil((first + offset) / apart) * apart - offset
    form = "%H:%M:%S" if apart < 60 else "%H:%M" if span < 86400 else "%d %b %H:%M"
    parts = [svg.line([(LEFT, height - BOTTOM), (WIDTH - 10, height - BOTTOM)], "axis", 1)]
    while at <= last:
        x = _x(at, first, last)
        parts.append(svg.line([(x, TOP), (x, height - BOTTOM)], "grid", 1))
        parts.append(svg.text(x, height - BOTTOM + 18, time.strftime(form, time.localtime(at)), "middle"))
        at += apart
    return parts
