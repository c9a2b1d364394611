"""A sweep whose points Optuna chooses: what it chooses from, its id, and the run that a choice makes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from conf.evaluation import metrics_of
from conf.schema import RunConfig, Sampler, SweepConfig
from launcher.check.check import NAME_LENGTH, tidy_name
from launcher.compose.compose import compose
from launcher.compose.declared import Declared, declared
from launcher.compose.hydra_main import sort_words
from launcher.compose.points import Point
from launcher.plan.content import HASH_DIGITS, content_hash, run_name
from launcher.problems import ConfigurationError, Problem, nearest
from launcher.sweep.grid import Grid
from launcher.sweep.ranking import WITHOUT_EVALUATION, Criterion, greater_of
from launcher.sweep.space import Domain, Space, combinations, corners, read_space

SUFFIX_DIGITS = 6


@dataclass(frozen=True)
class Search:
    """A sweep for Optuna. `words` compose it again, `fixed` hold for every trial."""

    id: str
    words: list[str]
    fixed: list[str]
    space: Space
    sweep: SweepConfig
    criterion: Criterion
    config_dir: str | None = None

    def point(self, own: Mapping[str, str]) -> Point:
        """The run with these values.

        Raises:
            ConfigurationError: they do not fit.
        """
        overrides = [f"{key}={value}" for key, value in own.items()]
        words = [*self.fixed, *overrides]
        config = compose(words, self.config_dir)
        return Point(tuple(overrides), tuple(words), replace(config, name=own_name(config, own)))

    def corners(self) -> Grid:
        """The points to check before anything is sent."""
        return Grid(self.id, [self.point(own) for own in corners(self.space)], self.words, self.config_dir)


def make_search(found: Declared, config_dir: str | None = None) -> Search:
    """The search that a command line asks for.

    Raises:
        ConfigurationError: with what is wrong with it.
    """
    fixed, space = read_space(found.request.overrides)
    first = compose([*fixed, *(f"{key}={value}" for key, value in next(corners(space)).items())], config_dir)
    sweep = found.sweep
    problems = list(_problems(sweep, space))
    criterion = _criterion(sweep, first, problems)
    if problems:
        raise ConfigurationError(problems)
    folder = [] if config_dir is None else ["--config-dir", config_dir]
    return Search(
        _id(first, space, sweep, criterion), [*folder, *found.words], fixed, space, sweep, criterion, config_dir
    )


def read_search(words: Sequence[str]) -> Search:
    """The search that the words in a `sweep.json` compose.

    Raises:
        ConfigurationError: they do not fit any more.
    """
    sorted_words = sort_words(list(words))
    return make_search(declared(sorted_words.overrides, sorted_words.config_dir), sorted_words.config_dir)


def own_name(config: RunConfig, own: Mapping[str, str]) -> str:
    """The run's name: the one all share, and the values that are its own."""
    parts = [run_name(config), *(f"{key.rpartition('.')[2]}-{value}" for key, value in own.items())]
    whole = "-".join(parts)
    name = tidy_name(whole)
    if len(whole) <= NAME_LENGTH:
        return name
    digits = hashlib.sha256(whole.encode()).hexdigest()[:SUFFIX_DIGITS]
    return f"{name[: NAME_LENGTH - SUFFIX_DIGITS - 1]}-{digits}"


def _id(first: RunConfig, space: Space, sweep: SweepConfig, criterion: Criterion) -> str:
    """The name and 8 hex digits of what is searched and how; not of how many trials, which may grow."""
    how = (content_hash(first), sorted(map(str, space.items())), str(sweep.sampler), sweep.seed, str(criterion))
    digits = hashlib.sha256(repr(how).encode()).hexdigest()[:HASH_DIGITS]
    return f"{tidy_name(sweep.name or run_name(first))}-{digits}"


def _criterion(sweep: SweepConfig, first: RunConfig, problems: list[Problem]) -> Criterion:
    """The metric that is optimised; named before anything is known of the data."""
    metric = sweep.metric or f"eval/{first.train.metric_for_best_model.removeprefix('eval/')}"
    if "/" not in metric:
        metric = f"eval/{metric}"
    group, _, name = metric.partition("/")
    known = metrics_of(first.task)
    if group in ("eval", "test") and name not in known:
        near = nearest(name, known) or ", ".join(known)
        problems.append(Problem("sweep.metric", metric, "is no metric of this task's evaluations", near))
    data = first.data
    if group == "eval" and not (data.validation_file or data.validation_size or data.dataset_name):
        rule = "needs validation data: data.validation_file or data.validation_size"
        problems.append(Problem("sweep.metric", metric, rule, f"sweep.metric={WITHOUT_EVALUATION}"))
    return Criterion(metric, greater_of(metric, sweep.direction, first.train))


def _problems(sweep: SweepConfig, space: Mapping[str, Domain]) -> list[Problem]:
    problems = []
    if sweep.sampler is Sampler.grid and combinations(space) is None:
        rule = "tries every combination, and an interval has no end of them; give values or a range"
        problems.append(Problem("sweep.sampler", "grid", rule, "tpe, random"))
    for key, value in {"trials": sweep.trials, "parallel_trials": sweep.parallel_trials}.items():
        if value < 1:
            problems.append(Problem(f"sweep.{key}", str(value), "has to be at least 1", "1"))
    return problems
