"""One configuration or a sweep of them (`-m`): every point is prepared before the first is acted on.

What is wrong with any point is said with the point's own overrides, and then nothing is started.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from conf.layout import RunFolder
from conf.outcome import State
from conf.schema import RunConfig
from launcher.compose.compose import compose
from launcher.compose.hydra_main import hydra_flags, sort_words
from launcher.compose.points import Point, points
from launcher.problems import ConfigurationError, MusterError, Problem
from launcher.send.proposal import Proposal


@dataclass(frozen=True)
class Ready:
    """One run that could start now, or is `done` already; `words` compose it alone.

    `point` are its own overrides, empty outside a sweep; `note` is what the scheduler said of it.
    """

    proposal: Proposal
    words: list[str]
    point: str = ""
    done: bool = False
    note: str = ""


Prepare = Callable[[RunConfig, list[str]], Ready]
Act = Callable[[Ready], int]


def each_run(words: list[str], prepare: Prepare, act: Act, *, summary: bool, headings: bool = True) -> int:
    """Act on the configuration, on each one of a sweep, or let Hydra's showing flags answer; the highest exit code.

    Raises:
        ConfigurationError: with every problem of the command line, of each file used and of each point.
    """
    sorted_words = sort_words(words)
    if sorted_words.flags:
        return hydra_flags(words)
    if not sorted_words.sweep:
        return act(prepare(compose(sorted_words.overrides, sorted_words.config_dir), words))
    folder = [] if sorted_words.config_dir is None else ["--config-dir", sorted_words.config_dir]
    found = with_own_names(points(sorted_words.overrides, sorted_words.config_dir))
    ready = _all_ready(found, folder, prepare)
    return _act_on_all(ready, act, summary, headings)


def with_own_names(found: list[Point]) -> list[Point]:
    """The points, where several would be one run or share a given name, each with its overrides in its name."""
    from launcher.check.check import tidy_name
    from launcher.plan.content import run_id, run_name

    def claim(point: Point) -> str:
        return point.config.name or run_id(point.config)

    count = Counter(claim(point) for point in found)
    named = []
    for point in found:
        if count[claim(point)] > 1 and point.overrides:
            pairs = (override.lstrip("+").partition("=") for override in point.overrides)
            own = [f"{key.rpartition('.')[2]}-{value}" for key, _, value in pairs if key != "name"]
            name = tidy_name("-".join([run_name(point.config), *own]))
            point = replace(point, config=replace(point.config, name=name))
        named.append(point)
    return named


def _all_ready(found: list[Point], folder: list[str], prepare: Prepare) -> list[Ready]:
    ready: list[Ready] = []
    wrong: dict[Problem, list[str]] = {}
    others: list[tuple[str, MusterError]] = []
    for point in found:
        label = " ".join(point.overrides)
        try:
            one = prepare(point.config, [*folder, *point.words])
        except ConfigurationError as error:
            for problem in error.problems:
                wrong.setdefault(problem, []).append(label)
        except MusterError as error:
            others.append((label, error))
        else:
            run_dir = one.proposal.plan.run_dir
            if any(run_dir == earlier.proposal.plan.run_dir for earlier in ready):
                wrong.setdefault(Problem("-m", "", f"has two points that are one run, {run_dir}"), []).append(label)
            ready.append(replace(one, point=label))
    if wrong:
        problems = [
            labelled for problem, labels in wrong.items() for labelled in _labelled(problem, labels, len(found))
        ]
        raise ConfigurationError([*problems, *(Problem("", "", f"[{label}] {error}") for label, error in others)])
    if others:
        first = others[0][1]
        first.args = ("\n".join(f"[{label}] {error}" for label, error in others),)
        raise first
    return ready


def _labelled(problem: Problem, labels: list[str], count: int) -> list[Problem]:
    """The problem with each point it is a problem of; once and as it is where that is all of them."""
    if len(labels) == count:
        return [problem]
    return [replace(problem, key=f"[{label}] {problem.key}" if label else problem.key) for label in labels]


def _act_on_all(ready: list[Ready], act: Act, summary: bool, headings: bool) -> int:
    codes = [0]
    try:
        for number, one in enumerate(ready, start=1):
            if headings:
                print(f"\n--- {number} of {len(ready)}: {one.point}", flush=True)
            codes.append(act(one))
            if summary and _state(one) in (State.stopped.value, State.cancelled.value):
                break
    finally:
        if summary:
            _print_summary(ready)
    return max(codes)


def _state(one: Ready) -> str:
    """How the point's run stands, in a word."""
    from launcher.runs.standing import stand
    from launcher.send.scheduler import live_jobs

    folder = _folder(one)
    if not folder.run_json.is_file():
        return "not started"
    return stand(folder, live_jobs([folder])).state.value


def _folder(one: Ready) -> RunFolder:
    return RunFolder(Path(one.proposal.plan.run_dir))


def _print_summary(ready: list[Ready]) -> None:
    from launcher.show.show import print_table

    print(f"\n--- {len(ready)} points", flush=True)
    print_table(("point", "state", "folder"), [(one.point, _state(one), str(_folder(one).path)) for one in ready])
