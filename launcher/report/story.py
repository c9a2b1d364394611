"""All that a report tells of a run, read from its folder once: only what fits in memory, however long the run was."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from conf.data_report import DataReport, read_data_report
from conf.layout import RunFolder
from conf.record import Plan
from launcher.compare.facets import RESULTS, Facets, facets_of, result_facts
from launcher.compare.overrides import command_of
from launcher.compose.compose import compose
from launcher.problems import ConfigurationError
from launcher.runs.evaluations import Evaluations, read_evaluations
from launcher.runs.predicted import Compared, compared_memory, compared_step
from launcher.runs.read import Line, number, read_lines
from launcher.runs.series import Series
from launcher.runs.standing import Standing
from launcher.show.progress import describe_event
from launcher.why.diagnosis import Diagnosis, diagnose
from slurm.parse import Job

PLACES = 2000
SAMPLES = 20
EVENTS = 400
LARGEST_FIGURE = 1 << 20


@dataclass(frozen=True)
class Event:
    """Something that happened: when, in which attempt, at which step where one is named, in words."""

    time: float
    attempt: int
    kind: str
    words: str
    step: int | None = None


@dataclass(frozen=True)
class Story:
    """One run at one moment.

    `figures` are pictures by name as data URLs, `samples` lines of samples.jsonl, `command` makes the run elsewhere.
    `memory` and `step_time` are what the plan said beside what was measured; `system` is what the nodes did, by the
    second since the first look at them.
    """

    folder: RunFolder
    diagnosis: Diagnosis
    series: Series
    facets: Facets
    evaluations: Evaluations
    events: list[Event] = field(default_factory=list)
    samples: list[Line] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    data: DataReport | None = None
    command: str = ""
    memory: Compared | None = None
    step_time: Compared | None = None
    system: Series = field(default_factory=Series)

    @property
    def standing(self) -> Standing:
        return self.diagnosis.standing


def read_story(folder: RunFolder, jobs: Mapping[str, Job] | None) -> Story:
    """Everything a report needs.

    Raises:
        FileNotFoundError, ValueError: run.json is missing or cannot be read.
    """
    series = Series(most=PLACES)
    for line in read_lines(folder.metrics):
        series.take(line)
    diagnosis = diagnose(folder, jobs)
    results = result_facts(diagnosis.standing, series, diagnosis.stories)
    return Story(
        folder=folder,
        diagnosis=diagnosis,
        series=series,
        facets={**facets_of(folder), RESULTS: results},
        evaluations=read_evaluations(folder),
        events=read_story_events(folder),
        samples=list(islice(read_lines(folder.samples), SAMPLES)),
        figures=_figures(folder),
        data=_data(folder),
        memory=compared_memory(folder),
        step_time=compared_step(folder),
        system=_system(folder),
        command=_command(diagnosis.standing.plan),
    )


def read_story_events(folder: RunFolder) -> list[Event]:
    """The events that are worth a line, oldest first; of very many the last."""
    found = []
    for line in read_lines(folder.events):
        words, at = describe_event(line), number(line.get("time"))
        if words and at is not None:
            step, attempt = line.get("step"), line.get("attempt")
            found.append(
                Event(
                    at,
                    attempt if isinstance(attempt, int) else 0,
                    str(line.get("event")),
                    words,
                    step if isinstance(step, int) else None,
                )
            )
    return found[-EVENTS:]


def _system(folder: RunFolder) -> Series:
    series, first = Series(most=PLACES), None
    for line in read_lines(folder.system):
        at = number(line.get("time"))
        if at is not None:
            first = at if first is None else first
            series.take({**line, "step": int(at - first)})
    return series


def _command(plan: Plan) -> str:
    """The command by the defaults here; nothing where this person's own files cannot be composed."""
    try:
        return command_of(plan, compose([]))
    except ConfigurationError:
        return ""


def _data(folder: RunFolder) -> DataReport | None:
    try:
        return read_data_report(folder.data_report)
    except (OSError, ValueError):
        return None


def _figures(folder: RunFolder) -> dict[str, str]:
    """The run's own pictures as images, so that nothing in them can act in the page."""
    found = {}
    for path in sorted((folder.path / "figures").glob("*.svg")):
        try:
            content = path.read_bytes() if path.stat().st_size <= LARGEST_FIGURE else b""
        except OSError:
            continue
        if content:
            found[path.stem] = "data:image/svg+xml;base64," + base64.b64encode(content).decode()
    return found
