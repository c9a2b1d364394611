"""How the points of a sweep are called, chosen, sent, limited and compared."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional

from conf.schema.key import key


class Direction(Enum):
    """Which values of a metric are better."""

    minimize = "minimize"
    maximize = "maximize"


class Sampler(Enum):
    """How Optuna chooses the values of the next trial."""

    tpe = "tpe"
    random = "random"
    grid = "grid"


class Pruner(Enum):
    """How Optuna tells early which trials are no use."""

    none = "none"
    median = "median"
    asha = "asha"
    hyperband = "hyperband"


@dataclass
class SweepConfig:
    """A sweep (`-m`). None of its keys is part of a run's content: a point is the same run alone and in any sweep."""

    name: Optional[str] = key(
        None,
        "What you call the sweep; its id is the name and 8 hex digits of what is swept. Null: the name its runs share.",
    )
    parameters: dict[str, Any] = key(
        {},
        "What is swept, for a sweep that is kept in a file: full key or group → its values as after `key=` on the"
        " command line ('1e-5,2e-5'), or one value for all points. The command line wins.",
    )
    max_parallel: Optional[int] = key(
        None,
        "At most so many points at a time on Slurm (`%k` of its arrays, which then follow each other). Null: as many as"
        " the queue gives.",
    )
    max_array_size: Optional[int] = key(
        None,
        "At most so many points in one Slurm array. Null: what the cluster allows (MaxArraySize); smaller where a site"
        " limits how much may be submitted at once.",
    )
    jobs: int = key(1, "Points at a time of `muster run -m`, on this machine; they share its cores and memory.")
    metric: Optional[str] = key(
        None,
        "The value by which points are compared: any of metrics.jsonl, such as `eval/accuracy`. Null: "
        "`train.metric_for_best_model` of the evaluations, `train/loss` where there are none.",
    )
    direction: Optional[Direction] = key(
        None, "`minimize` or `maximize`. Null: losses and errors are minimized, everything else maximized."
    )
    sampler: Optional[Sampler] = key(
        None,
        "`tpe`, `random` or `grid`: Optuna chooses the points (`sweep=optuna`), from `a,b`, `range(1,9,2)`,"
        " `interval(0.0,0.1)` and `tag(log,interval(1e-6,1e-3))`. Null: every combination of the values given.",
    )
    sampler_options: dict[str, Any] = key(
        {}, "Arguments of Optuna's sampler, such as {n_startup_trials: 5, multivariate: true} of `tpe`."
    )
    trials: int = key(20, "Trials that Optuna makes in all, those that failed included; a larger number goes on.")
    parallel_trials: int = key(
        1, "Trials at a time. More of them end sooner, each chosen from fewer that have ended before it."
    )
    pruner: Pruner = key(
        Pruner.none,
        "`median`, `asha` or `hyperband`: trials whose evaluations fall behind are stopped. Needs `train.eval_steps`"
        " well below the length of a run.",
    )
    pruner_options: dict[str, Any] = key(
        {}, "Arguments of Optuna's pruner, such as {n_startup_trials: 3, n_warmup_steps: 100} of `median`."
    )
    seed: int = key(42, "Of Optuna's sampler. With several trials at a time their order of ending has a say as well.")
    controller: dict[str, Any] = key(
        {},
        "sbatch options of the small job that chooses, sends and prunes trials: {time: '3-00:00:00', mem: 1G}. Where"
        " they say nothing, partition, account and qos are those of the runs.",
    )
