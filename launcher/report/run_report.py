"""The report of a run: one HTML page that needs nothing beside it. Pure: a story in, a page out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from conf.outcome import State
from launcher.compare.difference import difference, rows_of
from launcher.compare.facets import CODE, CONFIGURATION, RESULTS, VERSIONS, shown
from launcher.compare.overrides import given_keys
from launcher.report import frame
from launcher.report.curves import curve_pictures
from launcher.report.memory import compared_table, memory_parts
from launcher.report.nodes import node_pictures
from launcher.report.story import Story
from launcher.report.timeline import timeline_picture
from launcher.runs.reading import EVAL_LOSS, LOSS
from launcher.show import units
from launcher.show.data_page import SOURCE_COLUMNS, SPLIT_COLUMNS, source_row, split_row
from launcher.show.evaluations import best_words, metric_rows
from launcher.show.plan_page import plan_rows
from launcher.show.show import headline
from launcher.show.why_page import WORDS, change_lines, who_words
from launcher.why.timeline import AttemptStory

KINDS = {State.done: "good", State.failed: "bad", State.running: "good", State.queued: "warning"}


def run_report(story: Story, against: Story | None, now: float) -> str:
    """The page; with `against`, its curves lie in the pictures and what differs is a part of its own."""
    sections = [
        frame.section("What went wrong", *_fault(story)),
        frame.section("Curves", frame.cards(curve_pictures(story, against))),
        frame.section("Attempts", frame.card(timeline_picture(story, now), _attempts(story))),
        frame.section("Evaluation", frame.card(*_evaluation(story))),
        frame.section("Samples", *_samples(story)),
        frame.section("Memory and time", frame.card(*_planned(story))),
        frame.section("Nodes", frame.cards(node_pictures(story))),
        frame.section("Data", frame.card(*_data(story))),
        frame.section("Against another run", *_against(story, against)),
        frame.section("Configuration", *_configuration(story)),
        frame.section("Reproduce", *_reproduce(story)),
        frame.section("Events", _events(story)),
    ]
    there = [each for each in sections if each]
    title = story.standing.plan.run_id
    return frame.page(title, [*_head(story, now), frame.navigation(there), _figures(story), *there, frame.written(now)])


def _head(story: Story, now: float) -> Iterator[str]:
    standing = story.standing
    word = WORDS.get(standing.state, standing.state.value)
    badge = frame.badge(word, KINDS.get(standing.state, "warning"))
    yield f"<header><h1>{frame.plain(standing.plan.run_id)} {badge}</h1>"
    yield frame.paragraph(headline(standing.plan).partition(" · ")[2], "soft")
    began = next((each.started for each in story.diagnosis.stories if each.started), None)
    if began:
        spent = f"began {time.strftime('%d %b %Y %H:%M', time.localtime(began))}"
        end = now if standing.live else standing.since
        yield frame.paragraph(
            f"{spent}, {units.duration(end - began)} until {'now' if standing.live else 'its end'}", "soft"
        )
    if standing.reason and standing.state is not State.done:
        yield frame.paragraph(standing.reason)
    yield "</header>"


def _figures(story: Story) -> str:
    results, standing = story.facets[RESULTS], story.standing
    total = f" of {standing.total_steps}" if standing.total_steps else ""
    rows = [(f"{standing.step}{total}", "steps")]
    for name, label in ((LOSS, "training loss"), (EVAL_LOSS, "evaluation loss")):
        points = story.series.points.get(name, [])
        if points:
            ends = dict.fromkeys((f"{points[0][1]:.3g}", f"{points[-1][1]:.3g}"))
            rows.append((" → ".join(ends), label))
    found = story.evaluations
    if found.best is not None and found.best.metric != "loss":
        rows.append((f"{found.best.value:.4g}", f"best {found.best.metric}, step {found.best.step}"))
    speed = results["tokens a second, median"]
    tokens = story.series.points.get("data/tokens_seen", [])
    rows += [(units.count(speed), "tokens a second, median")] if speed else []
    rows += [(units.count(tokens[-1][1]), "tokens seen")] if tokens else []
    if results["seconds in attempts"]:
        rows.append((units.duration(results["seconds in attempts"]), "in attempts"))
    rows.append((str(len(story.diagnosis.stories)), "attempts" if len(story.diagnosis.stories) != 1 else "attempt"))
    return frame.figures(rows)


def _fault(story: Story) -> list[str]:
    diagnosis = story.diagnosis
    verdict = diagnosis.verdict
    if verdict is None or story.standing.state is State.done:
        return []
    title = diagnosis.advice.title if diagnosis.advice else "not accepted"
    evidence = "".join(
        frame.more(each.source, frame.preformatted("\n".join(each.lines))) for each in diagnosis.evidence
    )
    changes = "\n".join(line for change in diagnosis.changes for line in change_lines(change))
    return [
        frame.card(
            f'<p class="bad"><b>{frame.plain(f"{verdict.cause.value}: {title}")}</b></p>',
            frame.paragraph(who_words(verdict), "soft"),
            frame.preformatted(verdict.message),
            frame.paragraph(diagnosis.advice.meaning if diagnosis.advice else ""),
            frame.preformatted(changes),
            evidence,
        )
    ]


def _attempts(story: Story) -> str:
    rows = [_attempt_row(each) for each in story.diagnosis.stories]
    return frame.table(("attempt", "job", "on", "began", "took", "steps", "saved", "ended", "then"), rows)


def _attempt_row(story: AttemptStory) -> tuple[str, ...]:
    began = time.strftime("%d %b %H:%M:%S", time.localtime(story.started)) if story.started else ""
    took = units.duration(story.ended - story.started) if story.started and story.ended else ""
    steps = f"{story.first_step}–{story.last_step}" if story.first_step is not None else story.verb.replace("agent", "")
    state = WORDS.get(story.state, story.state.value) if story.state else ""
    ended = f"{state}: {story.reason}" if story.reason and not story.reason.endswith(state) else state
    saved = str(max(story.saved)) if story.saved else ""
    return str(story.number), story.job, ", ".join(story.hosts), began, took, steps, saved, ended, story.followed


def _evaluation(story: Story) -> list[str]:
    found = story.evaluations
    rows = metric_rows(found)
    if not rows:
        return []
    best = frame.paragraph(f"best: {best_words(found.best)}") if found.best else ""
    return [frame.table(rows[0], rows[1:]), best, *(frame.paragraph(text, "warning") for text in found.warnings)]


def _samples(story: Story) -> list[str]:
    if not story.samples:
        return []
    parts = [frame.paragraph("Prompts of the validation data, answered by the exported model.", "soft")]
    for line in story.samples:
        asked = str(line.get("prompt", line.get("text", "")))
        rows = [("before", line["before"])] if line.get("before") is not None else []
        rows += [("answer", line.get("answer", "")), ("expected", line.get("expected", ""))]
        probability = line.get("probability")
        rows += [("probability", probability)] if probability is not None else []
        answers = frame.pairs([(label, shown(value)) for label, value in rows])
        parts.append(frame.card(f'<div class="sample">{frame.plain(asked)}</div>', answers))
    return [parts[0], f'<div class="cards">{"".join(parts[1:])}</div>']


def _planned(story: Story) -> list[str]:
    compared = compared_table(story.memory, story.step_time)
    return [compared, *memory_parts(story.standing.plan, story.series)]


def _data(story: Story) -> list[str]:
    report = story.data
    if report is None:
        return []
    splits = [split_row(name, split) for name, split in report.splits.items()]
    sources = [source_row(source) for source in report.sources]
    lengths = story.figures.get("lengths")
    picture = f'<img alt="lengths of the documents in tokens" src="{lengths}">' if lengths else ""
    return [
        frame.table(SPLIT_COLUMNS, splits),
        *(frame.paragraph(finding, "warning") for finding in report.findings),
        frame.more("where it comes from", frame.table(SOURCE_COLUMNS, sources)),
        frame.more("lengths of the documents", picture),
    ]


def _against(story: Story, against: Story | None) -> list[str]:
    if against is None:
        return []
    found = difference(against.facets, story.facets)
    name, own = against.standing.plan.run_id, story.standing.plan.run_id
    parts = [frame.paragraph(f"{name} is drawn in grey in the curves above.", "soft")]
    for part, changed in found.parts.items():
        if changed:
            table = frame.table((part, name, own, ""), rows_of(changed))
            parts.append(frame.card(table, frame.paragraph(f"{found.same[part]} more are the same", "soft")))
    return parts if len(parts) > 1 else [*parts, frame.paragraph("Nothing differs.")]


def _configuration(story: Story) -> list[str]:
    plan = story.standing.plan
    given = given_keys(plan.config)
    notes = [*plan.warnings, *plan.notes]
    everything = frame.table(("key", "value"), _rows(story.facets[CONFIGURATION].items()))
    return [
        frame.card(frame.pairs([(label or " ", text) for label, text in plan_rows(plan)])),
        frame.card(
            frame.table(("key", "value"), _rows(given.items())),
            frame.paragraph("What differs from Muster's defaults.", "soft"),
            frame.more("every key", everything),
            frame.more("notes of the plan", frame.preformatted("\n".join(f"- {note}" for note in notes))),
        ),
    ]


def _rows(pairs: Iterable[tuple[str, object]]) -> list[tuple[str, str]]:
    return [(key, shown(value)) for key, value in pairs]


def _reproduce(story: Story) -> list[str]:
    plan = story.standing.plan
    versions = {**story.facets[CODE], **story.facets[VERSIONS]}
    return [
        frame.card(
            "<h3>Here</h3>",
            frame.preformatted(f"muster reproduce {plan.run_id}"),
            "<h3>Elsewhere, with the same data and model at the same paths</h3>",
            frame.preformatted(story.command),
            "<h3>It was made with</h3>",
            frame.pairs([(key, shown(value)) for key, value in versions.items() if value not in (None, "")]),
        )
    ]


def _events(story: Story) -> str:
    rows = [
        (time.strftime("%d %b %H:%M:%S", time.localtime(event.time)), f"{event.attempt}", event.words)
        for event in story.events
    ]
    return (
        frame.card(frame.more(f"{len(rows)} events", frame.table(("time", "attempt", "event"), rows))) if rows else ""
    )
