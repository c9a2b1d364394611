"""How the points of a sweep are called, sent and limited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from conf.schema.key import key


@dataclass
class SweepConfig:
    """A sweep (`-m`). None of its keys is part of a run's content: a point is the same run alone and in any sweep."""

    name: Optional[str] = key(
        None,
        "What you call the sweep; its id is the name and 8 hex digits of what is swept. Null: the name its runs share.",
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
