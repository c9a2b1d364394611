"""Memory and time of a configuration by sharding, micro batch and length: what `muster plan --table` shows. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from conf.choice import AUTO_KEYS
from conf.schema import RunConfig
from launcher.choice.search import Search
from launcher.choice.space import Candidate
from launcher.facts.facts import Facts

LENGTHS = (0.5, 1, 2)
"""Of `data.max_length`."""

MOST_MICROS = 6
STAYS = ("train.gradient_checkpointing", "train.gradient_checkpointing_interval")
"""Keys that `parallel=auto` may choose and that a table leaves as they are."""


@dataclass(frozen=True)
class Cell:
    """One way: bytes at the peak of a rank's GPU (on CPUs of a node), whether even the high estimate fits, the bytes
    that are missing to the likely one, seconds of a step, useful tokens a second of all ranks."""

    length: int
    sharding: str
    micro: int
    peak: int
    moment: str
    fits: bool | None
    missing: int
    step_s: float
    tokens_per_second: float


def table_of(config: RunConfig, facts: Facts) -> list[Cell]:
    """The cells of a configuration that has been chosen and checked, by length, sharding and micro batch."""
    return [
        cell for share in LENGTHS for cell in _of_length(config, facts, max(2, int(config.data.max_length * share)))
    ]


def _of_length(config: RunConfig, facts: Facts, length: int) -> list[Cell]:
    free = [key for key in AUTO_KEYS if key not in STAYS]
    train = replace(config.train, per_device_train_batch_size=None, gradient_accumulation_steps=None)
    parallel = replace(config.parallel, auto=free)
    search = Search(
        replace(config, parallel=parallel, train=train, data=replace(config.data, max_length=length)), facts
    )
    if search.subject is None or search.cost is None:
        return []
    found = sorted(search.candidates())
    micros = _spread(sorted({one.micro for one in found}))
    return [_cell(search, one, length) for one in found if one.micro in micros]


def _spread(micros: list[int]) -> set[int]:
    """At most so many micro batches, the small ones by powers of two."""
    powers = [micro for micro in micros if micro & (micro - 1) == 0]
    return set((powers or micros)[:MOST_MICROS])


def _cell(search: Search, candidate: Candidate, length: int) -> Cell:
    verdict = search.verdict(candidate)
    need = verdict.need
    known = need.capacity is not None
    return Cell(
        length=length,
        sharding=sharding(candidate),
        micro=candidate.micro,
        peak=need.peak.likely,
        moment=need.peak.name,
        fits=verdict.surely if known else None,
        missing=max(0, need.peak.likely - (need.capacity or 0)) if known else 0,
        step_s=search.seconds(candidate),
        tokens_per_second=search.tokens(candidate) / search.seconds(candidate),
    )


def sharding(candidate: Candidate) -> str:
    """`zero3`, `zero2_offload`, as the options of `parallel` are called; `zero3_offload_optimizer` has none."""
    family = candidate.family
    name = f"zero{family.stage}"
    if family.weights_on_host:
        return f"{name}_offload"
    if family.optimizer_on_host:
        return f"{name}_offload" if family.stage < 3 else f"{name}_offload_optimizer"
    return f"{name}_hpz" if family.group > 1 else name
