"""What `muster why` prints: the cause, what shows it, the attempts, what to change. Fits 80 columns."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator

from conf.outcome import Cause, State
from launcher.show import units
from launcher.show.show import Page
from launcher.why.change import Change
from launcher.why.diagnosis import Diagnosis
from launcher.why.timeline import AttemptStory
from launcher.why.verdict import Verdict

WIDTH = 78
HOSTS = 3
ATTEMPTS = 12
WORDS = {State.time_limit: "time limit"}


def print_diagnosis(page: Page, diagnosis: Diagnosis) -> None:
    """Draw all of it."""
    standing = diagnosis.standing
    page.title(f"{standing.plan.run_id}  {_state_words(diagnosis)}")
    for note in diagnosis.notes:
        page.lines("", folded(note, "  "))
    verdict = diagnosis.verdict
    if verdict is not None:
        _print_cause(page, diagnosis, verdict)
    elif not diagnosis.notes:
        page.lines("", folded(_nothing_wrong(diagnosis), "  "))
    for index, each in enumerate(diagnosis.evidence):
        page.title("what shows it" if index == 0 else "")
        print(f"  {page.paint(each.source, 'label')}", file=page.out)
        for line in each.lines:
            page.lines("", folded(line, "    "))
    if diagnosis.stories:
        page.lines("attempts", list(attempt_lines(diagnosis.stories, diagnosis.story)))
    if verdict is not None and (diagnosis.changes or diagnosis.advice):
        _print_changes(page, diagnosis)
    page.lines("next", diagnosis.commands)


def _state_words(diagnosis: Diagnosis) -> str:
    standing = diagnosis.standing
    total = f" of {standing.total_steps}" if standing.total_steps else ""
    at = f" at step {standing.step}{total}" if standing.step else ""
    return f"{WORDS.get(standing.state, standing.state.value)}{at}"


def _nothing_wrong(diagnosis: Diagnosis) -> str:
    standing, story = diagnosis.standing, diagnosis.story
    if standing.state is State.done:
        return "nothing is wrong: it is done"
    if story is None:
        return standing.reason or "it was not started yet"
    if standing.live:
        return f"nothing is wrong so far{f': {standing.reason}' if standing.reason else ''}"
    return standing.reason or "nobody wrote down why it ended; the attempt's logs are all there is"


def _print_cause(page: Page, diagnosis: Diagnosis, verdict: Verdict) -> None:
    title = diagnosis.advice.title if diagnosis.advice else "not accepted"
    attempt = f", attempt {diagnosis.story.number}" if diagnosis.story and len(diagnosis.stories) > 1 else ""
    print(f"\n  {page.paint(f'{verdict.cause.value}: {title}', 'warning')}{attempt}", file=page.out)
    who = "  ".join(part for part in (who_words(verdict), _when(verdict), diagnosis.log) if part)
    lines = [who] if who else []
    page.lines("", [*lines, *folded(verdict.message, "")])
    if diagnosis.victims:
        others = ", ".join(map(str, diagnosis.victims[:8])) + (" …" if len(diagnosis.victims) > 8 else "")
        page.lines("", folded(f"it took down rank{'s' if len(diagnosis.victims) > 1 else ''} {others}", ""))
    if diagnosis.advice:
        page.lines("", folded(diagnosis.advice.meaning, ""), "dim")


def who_words(verdict: Verdict) -> str:
    """`rank 1 on n2 (node 1)`; empty where nobody is to blame."""
    if verdict.rank is None:
        return verdict.host
    who = f"rank {verdict.rank}" if verdict.rank >= 0 else "the agent" if verdict.node else "agent or data step"
    return f"{who} on {verdict.host or '?'} (node {verdict.node})"


def _when(verdict: Verdict) -> str:
    return time.strftime("%d %b %H:%M:%S", time.localtime(verdict.time)) if verdict.time else ""


def attempt_lines(stories: list[AttemptStory], chosen: AttemptStory | None) -> Iterator[str]:
    """A line an attempt, the one in question marked; of very many the first and the last."""
    if len(stories) > ATTEMPTS:
        shown = [*stories[:2], *stories[-ATTEMPTS + 2 :]]
        left_out = len(stories) - len(shown)
    else:
        shown, left_out = stories, 0
    for index, story in enumerate(shown):
        if left_out and index == 2:
            yield f"   … {left_out} more"
        yield f"{'▸' if story is chosen else ' '} {attempt_line(story)}"


def attempt_line(story: AttemptStory) -> str:
    """`0  slurm:12 on n1, n2  25 Nov 14:00, 3 min 5 s  steps 1–12, saved 10  failed → requeue`."""
    started = time.strftime("%d %b %H:%M", time.localtime(story.started)) if story.started else "?"
    lasted = f", {units.duration(story.ended - story.started)}" if story.ended and story.started else ""
    hosts = ", ".join(story.hosts[:HOSTS]) + (f" +{len(story.hosts) - HOSTS}" if len(story.hosts) > HOSTS else "")
    where = f"{story.job} on {hosts}" if hosts else story.job
    return "  ".join(
        part for part in (str(story.number), where, f"{started}{lasted}", _done(story), _end(story)) if part
    )


def _done(story: AttemptStory) -> str:
    if story.verb != "agent":
        return story.verb
    if story.first_step is None:
        return "no step"
    saved = f", saved {max(story.saved)}" if story.saved else ""
    back = "".join(f", back to {to} after {at}" for at, to in story.rolled_back)
    return f"steps {story.first_step}–{story.last_step}{back}{saved}"


def _end(story: AttemptStory) -> str:
    if story.state is None:
        return ""
    return f"{WORDS.get(story.state, story.state.value)}{f' → {story.followed}' if story.followed else ''}"


def _print_changes(page: Page, diagnosis: Diagnosis) -> None:
    advice = diagnosis.advice
    lines = [line for change in diagnosis.changes for line in change_lines(change)]
    if advice is not None:
        lines += [line for text in advice.change for line in folded(f"· {text}", "", hanging="  ")]
    page.lines("what to change", lines)
    if advice is not None and diagnosis.verdict is not None and diagnosis.verdict.cause is not Cause.cancelled:
        page.lines("by itself", folded(f"the run {advice.again.value}", ""))


def change_lines(change: Change) -> list[str]:
    """`train.per_device_train_batch_size  8 → 4`, and below it what that does."""
    if not change.key:
        return folded(f"· {change.effect}", "", hanging="  ")
    if not change.to:
        return [f"{change.key}  {change.effect}"]
    line = f"{change.key}  {change.now} → {change.to}"
    if len(line) + len(change.effect) + 3 <= WIDTH:
        return [f"{line}   {change.effect}"]
    return [line, *folded(change.effect, "    ")]


def folded(text: str, indent: str, hanging: str = "") -> list[str]:
    """A text in lines of at most 78 letters; what has no spaces stays whole."""
    lines = []
    for line in text.splitlines() or [""]:
        lines += textwrap.wrap(
            line,
            WIDTH - 2,
            initial_indent=indent,
            subsequent_indent=indent + hanging,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
            drop_whitespace=True,
        ) or [""]
    return lines
