"""The owner of Optuna: a study kept in a sweep's folder, whose trials are asked for, judged and told here.

The journal is a file of JSON lines that every process may append to, so that a study goes on where one ended.
"""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass, field
from typing import Any

from conf.schema import Pruner, Sampler, SweepConfig
from launcher.problems import ConfigurationError, MusterError, Problem
from launcher.sweep.folder import SweepFolder
from launcher.sweep.space import Choices, Domain, Space, combinations, written

NAME = "sweep"
RUN_DIR, PRUNED = "run_dir", "pruned"
"""What is noted of a trial beside its values."""


def require_optuna() -> None:
    """Refuse to optimise where Optuna is not installed.

    Raises:
        MusterError: with the command that installs it.
    """
    try:
        import optuna
    except ImportError as error:
        raise MusterError("sweep.sampler needs Optuna: pip install 'muster[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass
class Trial:
    """One trial that is not told yet. `own` are its values as they are written after `key=`."""

    number: int
    own: dict[str, str]
    run_dir: str
    pruned: bool
    reported: int
    handle: Any = field(repr=False)

    @property
    def overrides(self) -> list[str]:
        return [f"{key}={value}" for key, value in self.own.items()]

    def note(self, run_dir: str) -> None:
        """Note which run the trial is."""
        self.run_dir = run_dir
        self.handle.set_user_attr(RUN_DIR, run_dir)

    def report(self, step: int, value: float) -> bool:
        """Report an evaluation; whether the trial is no use."""
        if step <= self.reported:
            return False
        self.reported = step
        self.handle.report(value, step)
        return bool(self.handle.should_prune())

    def note_pruned(self) -> None:
        """Note that the run is asked to end because the trial is no use."""
        self.pruned = True
        self.handle.set_user_attr(PRUNED, True)


class Study:
    """The trials of one sweep."""

    def __init__(self, folder: SweepFolder, sweep: SweepConfig, space: Space, maximize: bool) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        self._optuna = optuna
        self._space = space
        self._folder = folder
        folder.journal.touch(folder.file_mode)
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder.journal))),
            study_name=NAME,
            direction="maximize" if maximize else "minimize",
            pruner=make_pruner(sweep),
            load_if_exists=True,
        )
        # Not the same numbers again after the trials that are there.
        self._study.sampler = make_sampler(sweep, sweep.seed + self.count)
        self._limit = sweep.trials
        if sweep.sampler is Sampler.grid:
            points = combinations(space) or []
            self._limit = min(sweep.trials, len(points))
            if not self._study.get_trials(deepcopy=False):
                random.Random(sweep.seed).shuffle(points)
                for point in points:
                    self._study.enqueue_trial({key: _value(space[key], text) for key, text in point.items()})

    @property
    def count(self) -> int:
        """Trials that were asked for."""
        waiting = self._optuna.trial.TrialState.WAITING
        return sum(trial.state is not waiting for trial in self._study.get_trials(deepcopy=False))

    @property
    def is_full(self) -> bool:
        """Whether no more trials are wanted."""
        return self.count >= self._limit

    def ask(self) -> Trial:
        """The next trial."""
        with _quiet():
            handle = self._study.ask({key: self._distribution(domain) for key, domain in self._space.items()})
        return self._trial(handle, {})

    def running(self) -> list[Trial]:
        """The trials that were asked for and not told, as another process left them."""
        running = (self._optuna.trial.TrialState.RUNNING,)
        found = self._study.get_trials(deepcopy=False, states=running)
        return [self._trial(self._optuna.trial.Trial(self._study, trial._trial_id), trial) for trial in found]

    def tell(self, trial: Trial, value: float | None) -> None:
        """How a trial ended: with a value, pruned, or (None) failed."""
        state = self._optuna.trial.TrialState
        if trial.pruned:
            self._study.tell(trial.number, state=state.PRUNED)
        elif value is None:
            self._study.tell(trial.number, state=state.FAIL)
        else:
            self._study.tell(trial.number, value)

    def states(self) -> dict[str, int]:
        """How many trials ended how: `complete`, `pruned`, `fail`, …"""
        counts: dict[str, int] = {}
        for trial in self._study.get_trials(deepcopy=False):
            name = trial.state.name.lower()
            counts[name] = counts.get(name, 0) + 1
        return counts

    def _trial(self, handle: Any, frozen: Any) -> Trial:
        own = {key: written(domain, handle.params[key]) for key, domain in self._space.items() if key in handle.params}
        notes = handle.user_attrs
        reported = max(frozen.intermediate_values, default=0) if frozen else 0
        return Trial(handle.number, own, notes.get(RUN_DIR, ""), bool(notes.get(PRUNED)), reported, handle)

    def _distribution(self, domain: Domain) -> Any:
        distributions = self._optuna.distributions
        if isinstance(domain, Choices):
            return distributions.CategoricalDistribution(domain.values)
        if domain.whole:
            step = 1 if domain.step is None else int(domain.step)
            return distributions.IntDistribution(int(domain.low), int(domain.high), domain.logarithmic, step)
        return distributions.FloatDistribution(domain.low, domain.high, domain.logarithmic, domain.step)


def make_sampler(sweep: SweepConfig, seed: int) -> Any:
    """Optuna's sampler.

    Raises:
        ConfigurationError: it does not take `sweep.sampler_options`.
    """
    from optuna import samplers

    options = dict(sweep.sampler_options)
    if sweep.sampler is Sampler.tpe:
        # Trials that still run count as bad, so that those at a time do not all try the same.
        return _made("sweep.sampler_options", samplers.TPESampler, {"seed": seed, "constant_liar": True, **options})
    return _made("sweep.sampler_options", samplers.RandomSampler, {"seed": seed, **options})


def make_pruner(sweep: SweepConfig) -> Any:
    """Optuna's pruner.

    Raises:
        ConfigurationError: it does not take `sweep.pruner_options`.
    """
    from optuna import pruners

    kinds = {
        Pruner.none: pruners.NopPruner,
        Pruner.median: pruners.MedianPruner,
        Pruner.asha: pruners.SuccessiveHalvingPruner,
        Pruner.hyperband: pruners.HyperbandPruner,
    }
    options = {} if sweep.pruner is Pruner.none else dict(sweep.pruner_options)
    return _made("sweep.pruner_options", kinds[sweep.pruner], options)


def _made(key: str, kind: Any, options: dict[str, Any]) -> Any:
    with _quiet():
        try:
            return kind(**options)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                [Problem(key, str(options), f"does not go with {kind.__name__}: {error}")]
            ) from error


def _value(domain: Domain, text: str) -> Any:
    if isinstance(domain, Choices):
        return text
    return int(text) if domain.whole else float(text)


class _quiet(warnings.catch_warnings):  # noqa: N801 # used as a function
    """Without Optuna's remarks on what is experimental."""

    def __enter__(self) -> Any:
        found = super().__enter__()
        warnings.simplefilter("ignore")
        return found
