"""What to change, in keys and values: from the plan of the run and the words of its failure.

Each function of `REMEDIES` looks at one key and answers with nothing where that key cannot help.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from conf.schema import NonFinite, Precision
from launcher.show.units import duration, size
from launcher.why import memory
from launcher.why.change import Case, Change

SAFE_LEAD = 2.0
"""Times the longest save seen, as a lead before the time limit."""


def full_folder(case: Case) -> list[Change]:
    """The folder that is full, by the path in the error, else the places a run writes to; with what is free now."""
    named = re.search(
        r"no space left on device: ['\"]?(/[^'\"\n]+)|quota exceeded: ['\"]?(/[^'\"\n]+)", case.words, re.I
    )
    config = case.plan.config
    where = Path(named[1] or named[2]) if named else None
    places = {"named by the error": where} if where else {
        "run_root": Path(case.plan.run_dir),
        "data.cache_dir": Path(config.data.cache_dir).expanduser() if config.data.cache_dir else None,
        "cluster.scratch": Path(config.cluster.scratch),
    }  # fmt: skip
    return [Change(f"{name}: {_free(path)}") for name, path in places.items() if path is not None]


def fewer_checkpoints(case: Case) -> list[Change]:
    """Fewer checkpoints kept."""
    limit = case.plan.config.checkpoint.save_total_limit
    if limit <= 1:
        return []
    return [Change("room for one more is needed while it is written", "checkpoint.save_total_limit", str(limit), "1")]


def gentler(case: Case) -> list[Change]:
    """A lower learning rate, clipping, a longer warm-up."""
    config = case.plan.config
    rate = config.optim.learning_rate
    changes = [Change("the usual cause", "optim.learning_rate", f"{rate:g}", f"{rate / 3:.1g}")]
    if config.optim.max_grad_norm <= 0:
        changes.append(Change("clips gradients", "optim.max_grad_norm", "0", "1.0"))
    if config.schedule.warmup_steps < 0.1:
        changes.append(Change("a longer warm-up", "schedule.warmup_steps", f"{config.schedule.warmup_steps:g}", "0.1"))
    return changes


def go_back(case: Case) -> list[Change]:
    """Going back to a checkpoint, where there are some."""
    config = case.plan.config
    if config.health.non_finite is NonFinite.roll_back or not config.checkpoint.save_steps:
        return []
    effect = "goes back to the checkpoint before the trouble, and on with the documents after it"
    return [Change(effect, "health.non_finite", config.health.non_finite.value, NonFinite.roll_back.value)]


def wider_numbers(case: Case) -> list[Change]:
    """bf16 instead of fp16."""
    if case.plan.config.train.precision is not Precision.fp16:
        return []
    return [Change("fp16 overflows beyond 65504", "train.precision", "fp16", "bf16")]


def missing_package(case: Case) -> list[Change]:
    """Which package, for which Python."""
    python = case.plan.config.cluster.python or "the Python that Muster runs with"
    found = re.search(r"no module named ['\"]([\w.]+)", case.words, re.IGNORECASE)
    if found is None:
        return [Change(f"looked for by {python}")]
    package = found[1].partition(".")[0]
    program = case.plan.config.cluster.python or "python"
    return [Change(f"{package} is missing in {python}: `{program} -m pip install {package.replace('_', '-')}`")]


def local_model(case: Case) -> list[Change]:
    """A folder instead of a name on the hub."""
    name = case.plan.config.model.model_name_or_path
    if not name or Path(name).is_dir():
        return []
    effect = "a folder that every node sees"
    return [Change(effect, "model.model_name_or_path", name, f"/shared/models/{name.rpartition('/')[2]}")]


def checkpoints_there(case: Case) -> list[Change]:
    """The checkpoints that are there."""
    steps = ", ".join(map(str, case.saved)) or "none"
    return [Change(f"checkpoints that are there: {steps}, in {case.plan.run_dir}/checkpoints")]


def leave_out_host(case: Case) -> list[Change]:
    """The node left out."""
    failure, cluster = case.failure, case.plan.config.cluster
    if failure is None or not failure.host or cluster.kind.value == "local":
        return []
    excluded = [name for name in (cluster.exclude, failure.host) if name]
    return [Change("not on this node", "cluster.exclude", cluster.exclude or "null", ",".join(excluded))]


def save_more_often(case: Case) -> list[Change]:
    """Saving more often, from the steps that were lost."""
    every = case.plan.config.checkpoint.save_steps
    if case.lost_steps < 2:
        return []
    fewer = max(1, case.lost_steps // 2 if every == 0 else min(every // 2, case.lost_steps))
    shown = f"{every} (at the end alone)" if every == 0 else str(every)
    if every and fewer >= every:
        return []
    return [Change(f"{case.lost_steps} steps were done again or lost", "checkpoint.save_steps", shown, str(fewer))]


def longer_lead(case: Case) -> list[Change]:
    """A lead that covers the longest save seen."""
    lead = case.plan.config.cluster.signal_lead_s
    if case.save_s is None or case.save_s * SAFE_LEAD < lead:
        return []
    effect = f"a save took {duration(case.save_s)}"
    return [Change(effect, "cluster.signal_lead_s", str(lead), str(round(case.save_s * SAFE_LEAD) + 60))]


def phase_limit(case: Case) -> list[Change]:
    """The limit of the phase that stood still."""
    limits = case.plan.config.health.limits_s
    found = re.search(r"progress for \d+ s in (prepare|load|train|evaluate|save|export)\b", case.words)
    if found is None:
        return []
    now = float(getattr(limits, found[1]))
    return [Change("only if it was slow, not stuck", f"health.limits_s.{found[1]}", f"{now:g}", f"{2 * now:g}")]


REMEDIES: dict[str, Callable[[Case], list[Change]]] = {
    remedy.__name__: remedy
    for remedy in (
        memory.predicted_memory,
        memory.what_fits,
        memory.predicted_host_memory,
        memory.less_offload,
        memory.more_host_memory,
        memory.fewer_ranks,
        memory.fewer_workers,
        full_folder,
        fewer_checkpoints,
        gentler,
        go_back,
        wider_numbers,
        missing_package,
        local_model,
        checkpoints_there,
        leave_out_host,
        save_more_often,
        longer_lead,
        phase_limit,
    )
}


def _free(path: Path) -> str:
    """What is free where a path lies, or would lie."""
    here = path
    while not here.exists() and here != here.parent:
        here = here.parent
    try:
        found = os.statvfs(here)
    except OSError as error:
        return f"{path} ({error.strerror})"
    free, whole = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    return f"{path} has {size(free)} of {size(whole)} free here now"
