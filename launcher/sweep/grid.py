"""The points of a grid (`-m key=1,2`), composed, named, planned and checked: all problems of all points at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from conf.schema import RunConfig
from launcher.check.check import NAME_LENGTH, tidy_name
from launcher.compose.points import Point, points
from launcher.plan.content import content_hash, run_name
from launcher.problems import ConfigurationError, MusterError, Problem
from launcher.send.proposal import Proposal
from launcher.sweep.record import SweptPoint, common_name, identity, sweep_id
from launcher.sweep.tracked import tracked

SUFFIX_DIGITS = 6
_QUOTES = "\"'"


@dataclass(frozen=True)
class Ready:
    """One run that could start now; `words` compose it alone.

    `overrides` are its own ones of a sweep and `identity` is what it is there, both empty outside.
    """

    proposal: Proposal
    words: list[str]
    overrides: tuple[str, ...] = ()
    identity: str = ""

    @property
    def point(self) -> str:
        """The point in a line; empty outside a sweep."""
        return " ".join(self.overrides)

    @property
    def swept(self) -> SweptPoint:
        """The point as `sweep.json` keeps it."""
        plan = self.proposal.plan
        return SweptPoint(list(self.overrides), plan.run_id, plan.run_dir, self.identity)


Prepare = Callable[[RunConfig, list[str]], Ready]


@dataclass(frozen=True)
class Grid:
    """The points of a sweep with its id; `words` compose all of them."""

    id: str
    points: list[Point]
    words: list[str]
    config_dir: str | None = None

    @property
    def all_words(self) -> list[str]:
        """The words with the flag for the folder of configurations."""
        return [*_folder_words(self.config_dir), *self.words]


def compose_grid(words: list[str], config_dir: str | None = None) -> Grid:
    """The points that the words give, named apart and tracked as one sweep.

    Raises:
        ConfigurationError: with every problem of the command line and of each file used.
    """
    found = points(words, config_dir)
    if any(point.config.sweep != found[0].config.sweep for point in found):
        raise ConfigurationError([Problem("sweep", "", "is of the whole sweep; its keys cannot differ between points")])
    identities = [identity(point.config) for point in found]
    name = tidy_name(common_name([point.config for point in found]))
    return tracked_grid(Grid(sweep_id(name, identities), with_own_names(found), words, config_dir))


def tracked_grid(grid: Grid) -> Grid:
    """The grid with what W&B is to call its points."""
    own = [replace(point, config=tracked(point.config, grid.id, point.overrides)) for point in grid.points]
    return replace(grid, points=own)


def with_own_names(found: Sequence[Point]) -> list[Point]:
    """The points, where several share a given name or would be one run, each with its overrides in its name."""
    contents = [content_hash(point.config) for point in found]
    count = Counter(_claim(point, content) for point, content in zip(found, contents, strict=True))
    named = []
    for point, content in zip(found, contents, strict=True):
        if count[_claim(point, content)] > 1 and point.overrides:
            pairs = (override.lstrip("+").partition("=") for override in point.overrides)
            own = [f"{key.rpartition('.')[2]}-{value.strip(_QUOTES)}" for key, _, value in pairs if key != "name"]
            name = tidy_name("-".join([run_name(point.config), *own]))
            point = replace(point, config=replace(point.config, name=name))
        named.append(point)
    return _apart(named, contents)


def propose_grid(grid: Grid, prepare: Prepare) -> list[Ready]:
    """Each point prepared.

    Raises:
        ConfigurationError: with every problem of every point.
        MusterError: a point cannot be prepared for another reason.
    """
    folder = _folder_words(grid.config_dir)
    ready: list[Ready] = []
    run_dirs: set[str] = set()
    wrong: dict[Problem, list[str]] = {}
    others: list[tuple[str, MusterError]] = []
    for point in grid.points:
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
            if run_dir in run_dirs:
                wrong.setdefault(Problem("-m", "", f"has two points that are one run, {run_dir}"), []).append(label)
            run_dirs.add(run_dir)
            ready.append(replace(one, overrides=point.overrides, identity=identity(point.config)))
    _raise(wrong, others, len(grid.points))
    return ready


def _raise(wrong: dict[Problem, list[str]], others: list[tuple[str, MusterError]], count: int) -> None:
    if wrong:
        problems = [labelled for problem, labels in wrong.items() for labelled in _labelled(problem, labels, count)]
        raise ConfigurationError([*problems, *(Problem("", "", f"[{label}] {error}") for label, error in others)])
    if others:
        first = others[0][1]
        first.args = ("\n".join(f"[{label}] {error}" for label, error in others),)
        raise first


def _labelled(problem: Problem, labels: list[str], count: int) -> list[Problem]:
    """The problem with each point it is a problem of; once and as it is where that is all of them."""
    if len(labels) == count:
        return [problem]
    return [replace(problem, key=f"[{label}] {problem.key}" if label else problem.key) for label in labels]


def _claim(point: Point, content: str) -> str:
    return point.config.name or f"{run_name(point.config)}-{content}"


def _apart(found: list[Point], contents: list[str]) -> list[Point]:
    """Names that became one in tidying or cutting, with digits of the content behind."""
    count = Counter(point.config.name for point in found if point.config.name)
    named = []
    for point, content in zip(found, contents, strict=True):
        name = point.config.name
        if name and count[name] > 1 and len(set(contents)) == len(contents):
            start = name[: NAME_LENGTH - SUFFIX_DIGITS - 1]
            point = replace(point, config=replace(point.config, name=f"{start}-{content[:SUFFIX_DIGITS]}"))
        named.append(point)
    return named


def _folder_words(config_dir: str | None) -> list[str]:
    return [] if config_dir is None else ["--config-dir", config_dir]
