"""What would fit instead: the nearest changes to a configuration that needs too much, each by the same estimate.

Cheap changes come before dear ones, one change before two. Nothing that would change what is learned is offered.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from conf.schema import ClusterKind, Offload, ParallelConfig, RunConfig
from launcher.facts.facts import Facts
from launcher.plan.memory.estimate import Subject, device_need
from launcher.plan.plan import resolve_packing, subject_of
from launcher.plan.topology import make_topology

SHOWN = 3
MOST_NODES = 8
"""Times as many nodes as asked that are still offered."""


@dataclass(frozen=True)
class Change:
    """Overrides after which a rank needs `likely` bytes at its peak."""

    overrides: tuple[str, ...]
    likely: int


Step = tuple[str, Callable[[RunConfig], RunConfig]]


def changes_that_fit(config: RunConfig, facts: Facts, count: int = SHOWN, below: float | None = None) -> list[Change]:
    """Up to `count` changes after which the high estimate fits as well; none where nothing near does.

    Args:
        below: bytes under which the expected peak has to be as well, where more was needed than expected.
    """
    found: list[Change] = []
    first = _subject(config, facts)
    levers = _levers(config, first)
    for together in range(1, len(levers) + 1):
        for chosen in itertools.combinations(levers, together):
            if len(found) >= count:
                return found
            change = _first_that_fits(config, facts, first, chosen, found, below)
            if change is not None:
                found.append(change)
        if found and together > 1:
            break
    return found


def _first_that_fits(
    config: RunConfig,
    facts: Facts,
    first: Subject,
    levers: Sequence[Sequence[Step]],
    known: list[Change],
    below: float | None,
) -> Change | None:
    """The mildest setting of these levers that fits, unless a part of it is known to."""
    for steps in itertools.product(*levers):
        words = tuple(word for word, _ in steps)
        if any(set(change.overrides) <= set(words) for change in known):
            return None
        changed = config
        for _, step in steps:
            changed = step(changed)
        try:
            need = device_need(_subject(changed, facts, first), facts)
        except ValueError:  # the batch does not divide
            continue
        if need is not None and need.high <= (need.capacity or 0) and (below is None or need.peak.likely < below):
            return Change(words, need.peak.likely)
    return None


def _subject(config: RunConfig, facts: Facts, like: Subject | None = None) -> Subject:
    topology, _ = make_topology(config.cluster, facts)
    packing, _ = resolve_packing(config, str(facts.model.config.get("model_type", "")))
    return subject_of(config, facts, topology, packing, like)


def _levers(config: RunConfig, subject: Subject) -> list[list[Step]]:
    """What can be turned, mildest first; each with its settings, mildest first."""
    levers = [
        list(_smaller_micro_batches(subject)),
        list(_checkpointing(config)),
        list(_attention(config)),
        list(_stages(config)),
        list(_offload(config)),
        list(_more_nodes(config)),
    ]
    return [lever for lever in levers if lever]


def _smaller_micro_batches(subject: Subject) -> Iterator[Step]:
    micro = subject.batch.micro_batch_size
    while micro > 1:
        micro //= 2
        yield f"train.per_device_train_batch_size={micro}", _with_micro(micro)


def _with_micro(micro: int) -> Callable[[RunConfig], RunConfig]:
    return lambda config: replace(
        config, train=replace(config.train, per_device_train_batch_size=micro, gradient_accumulation_steps=None)
    )


def _checkpointing(config: RunConfig) -> Iterator[Step]:
    train = config.train
    if not train.gradient_checkpointing or train.gradient_checkpointing_interval > 1:
        whole = replace(train, gradient_checkpointing=True, gradient_checkpointing_interval=1)
        yield "train.gradient_checkpointing=true", lambda config: replace(config, train=whole)


def _attention(config: RunConfig) -> Iterator[Step]:
    if config.model.attn_implementation == "eager":
        model = replace(config.model, attn_implementation="auto")
        yield "model.attn_implementation=auto", lambda config: replace(config, model=model)


def _stages(config: RunConfig) -> Iterator[Step]:
    for stage in range(config.parallel.zero_stage + 1, 4):
        yield f"parallel.zero_stage={stage}", _with_stage(stage)


def _with_stage(stage: int) -> Callable[[RunConfig], RunConfig]:
    return lambda config: replace(config, parallel=replace(config.parallel, zero_stage=stage))


def _offload(config: RunConfig) -> Iterator[Step]:
    """The optimizer on the host; with it stage 3 without hpZ, the weights as well."""
    parallel = config.parallel
    if parallel.offload_optimizer is Offload.none:
        yield "parallel.offload_optimizer=cpu", lambda config: replace(config, parallel=_offloaded(config, False))
    if parallel.offload_param is Offload.none:
        yield "parallel=zero3_offload", lambda config: replace(config, parallel=_offloaded(config, True))


def _offloaded(config: RunConfig, weights: bool) -> ParallelConfig:
    parallel = config.parallel
    if weights:
        parallel = replace(parallel, zero_stage=3, offload_param=Offload.cpu)
    stage = max(1, parallel.zero_stage)
    return replace(parallel, zero_stage=stage, offload_optimizer=Offload.cpu, hpz_partition_size=1)


def _more_nodes(config: RunConfig) -> Iterator[Step]:
    if config.cluster.kind is not ClusterKind.slurm or config.parallel.zero_stage == 0:
        return
    times = 2
    while times <= MOST_NODES:
        nodes = config.cluster.nodes * times
        yield f"cluster.nodes={nodes}", _with_nodes(nodes)
        times *= 2


def _with_nodes(nodes: int) -> Callable[[RunConfig], RunConfig]:
    return lambda config: replace(config, cluster=replace(config.cluster, nodes=nodes))
