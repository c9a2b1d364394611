"""Where metrics are mirrored to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from conf.schema.key import key


class Tracker(Enum):
    """Where metrics are mirrored to."""

    wandb = "wandb"
    none = "none"


class TrackingMode(Enum):
    """Whether W&B is written to over the network or into files."""

    online = "online"
    offline = "offline"


@dataclass
class TrackingConfig:
    """Weights & Biases. `tracking=wandb|none`. The API key comes from the environment or ~/.netrc, never from here."""

    name: Tracker = key(Tracker.wandb, "`wandb` or `none`. metrics.jsonl is written in any case.")
    mode: TrackingMode = key(
        TrackingMode.offline,
        "`online`, or `offline` into the run folder (`wandb sync` later).",
    )
    project: str = key("muster", "W&B project.")
    entity: Optional[str] = key(None, "W&B team or user. Null: your default.")
    tags: list[str] = key([], "W&B tags.")
    group: Optional[str] = key(None, "W&B group. Null: the sweep's id for a point of a sweep, else none.")
    job_type: str = key("train", "W&B job type.")
    run_name: Optional[str] = key(
        None, "Name shown by W&B. Null: of a point of a sweep the overrides that are its own, else the run's id."
    )
