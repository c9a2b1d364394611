"""What is watched while a run runs, and what follows when something is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from conf.schema.key import key
from conf.schema.preflight import PreflightConfig


@dataclass
class LimitsConfig:
    """Seconds without a sign of progress from any rank of the job, after which a phase counts as hanging.

    Signs of progress are micro batches, steps, evaluated batches, answers and written files.
    """

    prepare: float = key(7200.0, "Preparing the data; raise it for a model or data that takes longer to download.")
    load: float = key(
        3600.0,
        "From the start of the ranks to the loaded model and checkpoint; raise it where a large model comes from a "
        "slow file system.",
    )
    first_step: float = key(
        1800.0, "The rehearsal and the first step, with what is compiled and tuned in them; raise it for long compiles."
    )
    train: float = key(
        600.0, "A micro batch or a step; where steps are slow, `health.step_factor` times the slowest of late."
    )
    evaluate: float = key(1800.0, "A batch of an evaluation, or of generated answers.")
    save: float = key(1800.0, "A file of a checkpoint; raise it for a file system that may be away for longer.")
    export: float = key(3600.0, "A file of an export, and its proof.")
    script: float = key(
        7200.0, "`task=script`: without a line in any rank's log; raise it for a program that is silent for longer."
    )


class NonFinite(Enum):
    """What follows from gradients that are not finite."""

    skip = "skip"
    roll_back = "roll_back"
    end = "end"


class OnSpike(Enum):
    """What follows from a loss that jumps."""

    ignore = "ignore"
    warn = "warn"
    roll_back = "roll_back"
    end = "end"


@dataclass
class HealthConfig:
    """What is watched while a run runs, and what follows when something is wrong."""

    watchdog: bool = key(
        True,
        "End an attempt that makes no progress: stacks of all ranks are kept, the rank at fault is named, and the run "
        "goes on from its newest checkpoint. Turn it off to attach a debugger.",
    )
    limits_s: LimitsConfig = key(LimitsConfig, "How long each phase may stand still.")
    step_factor: float = key(
        10.0,
        "A step counts as hanging after this many times the slowest of the last 32, and never before "
        "`health.limits_s.train`. Raise it where steps differ much in length.",
    )
    collective_timeout_s: Optional[float] = key(
        None,
        "Longest that a rank waits for the others in one collective before it fails by itself: the backstop of the "
        "watchdog. Null: the longest of `health.limits_s`.",
    )
    straggler_factor: float = key(
        1.5,
        "A rank is named as slow when its own work takes this many times the median of all ranks over the last steps; "
        "0: never. It is warned of, not ended.",
    )
    non_finite: NonFinite = key(
        NonFinite.skip,
        "A step whose gradient is NaN or infinite never changes the weights. `skip`: it is left out, said, and its "
        "batch kept in the attempt's folder; three such steps in a row, or more than `health.max_skipped_steps`, end "
        "the run with cause nan. `roll_back`: then it goes back to a checkpoint instead. `end`: the first one ends it. "
        "With fp16, where that is how the loss scale is found, nothing of it happens.",
    )
    max_skipped_steps: int = key(
        10,
        "Most steps that are left out so, in a run or since its last roll back. Raise it for data with known bad rows.",
    )
    max_roll_backs: int = key(
        2,
        "How often a run that may (`health.non_finite`, `health.spike`) goes back to the newest checkpoint from before "
        "the trouble. It goes on with the documents after the trouble, so the updates since that checkpoint are lost; "
        "once more ends it, with cause nan.",
    )
    spike: OnSpike = key(
        OnSpike.warn,
        "A logged loss far above those before. `warn`: a warning, with the batch kept in the attempt's folder; "
        "`roll_back`: the same, and back to a checkpoint once three logged losses in a row are so; `end`: the end of "
        "the run, with cause nan.",
    )
    spike_factor: float = key(
        8.0,
        "How far: robust standard deviations (1.48 times the median distance from the median) above the median of the "
        "last 32 logged losses. Lower it to hear of smaller jumps.",
    )
    check_nodes: bool = key(
        True,
        "Look at every node before its ranks start, beside the data step and the imports. A node that fails is named, "
        "left out, and the run goes back into the queue without it. Slurm jobs only.",
    )
    preflight: PreflightConfig = key(PreflightConfig, "What a node has to have.")
    silence_s: float = key(
        60.0,
        "Seconds without a word from another node's agent after which that node, or the link to it, counts as lost. A "
        "shorter break of the network is waited out.",
    )
    leave_out: Optional[int] = key(
        None,
        "Most nodes that are left out for the ledger and by the run itself, so that no mistake empties a partition. "
        "Null: a tenth of the partition, one at least; 0: none, ever.",
    )
    node_days: float = key(
        7.0, "Days for which the ledger keeps evidence against a node. Longer where repairs take longer."
    )
