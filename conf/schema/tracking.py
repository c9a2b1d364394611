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


class AlertKind(Enum):
    """What W&B tells a person of."""

    failed = "failed"
    hang = "hang"
    no_progress = "no_progress"
    non_finite = "non_finite"
    restart = "restart"
    straggler = "straggler"
    time_limit = "time_limit"


class LogModel(Enum):
    """Which models become artifacts, in the words of Hugging Face's WANDB_LOG_MODEL; `none` is its `false`."""

    none = "none"
    end = "end"
    checkpoint = "checkpoint"


class ArtifactFiles(Enum):
    """Whether an artifact has the files or says where they are."""

    upload = "upload"
    reference = "reference"


@dataclass
class TrackingConfig:
    """Weights & Biases. `tracking=wandb|none`. The API key comes from the environment or ~/.netrc, never from here."""

    name: Tracker = key(Tracker.wandb, "`wandb` or `none`. metrics.jsonl is written in any case.")
    mode: TrackingMode = key(
        TrackingMode.offline,
        "`online`, or `offline` into the run folder (`muster push` later).",
    )
    project: str = key("muster", "W&B project.")
    entity: Optional[str] = key(None, "W&B team or user. Null: your default.")
    tags: list[str] = key([], "W&B tags.")
    group: Optional[str] = key(None, "W&B group. Null: the sweep's id for a point of a sweep, else none.")
    job_type: str = key("train", "W&B job type.")
    run_name: Optional[str] = key(
        None, "Name shown by W&B. Null: of a point of a sweep the overrides that are its own, else the run's id."
    )
    alerts: list[AlertKind] = key(
        list(AlertKind),
        "What W&B sends a message of, by mail or Slack as you have set it there. `[]` for silence; leave out "
        "`restart` and `time_limit` where jobs are short.",
    )
    stop_button: bool = key(
        True,
        "The stop button on the run's page saves and ends the run, like `muster stop`. False: it is not heard.",
    )
    samples: int = key(
        20, "Documents shown in the table of each evaluated split, before and after training; 0: no tables."
    )
    log_model: LogModel = key(
        LogModel.none,
        "Models that become W&B artifacts: `end`, the verified export; `checkpoint`, each checkpoint as well; `none`.",
    )
    artifact: ArtifactFiles = key(
        ArtifactFiles.upload,
        "`upload` sends the files of a model; `reference` only its path and the checksums, for a file system that "
        "whoever uses the artifact can reach.",
    )
    system_interval_s: float = key(
        15.0,
        "Seconds between two looks at every node's processors, memory, GPUs, disks and network (system.jsonl, "
        "`nodes/*`). 0: none. Raise it for weeks of training on many nodes.",
    )
