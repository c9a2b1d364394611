"""What is kept to go on from, and what is handed back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from conf.schema.key import key


class ExportWhen(Enum):
    """When the Hugging Face model is written."""

    auto = "auto"
    end = "end"
    job = "job"
    never = "never"


@dataclass
class CheckpointConfig:
    """What is kept to go on from, and what is handed back."""

    save_steps: int = key(500, "Steps between checkpoints; 0: only at the end or at a stop.")
    save_total_limit: int = key(
        2,
        "Checkpoints kept; the newest that verifies is never deleted, nor that of the best model "
        "(`train.load_best_model_at_end`), which may come on top.",
    )
    async_save: bool = key(
        True,
        "Write checkpoints beside the training, which stands still only while its states are copied within memory; "
        "another process of each rank writes and hashes the copy. It takes as many bytes of a node's memory as its "
        "ranks' files have (AdamW: 12 to 16 a trained parameter, shared by the ranks) until training ends. Where they "
        "are not free it is switched off, with a warning; `false` where they are needed otherwise. The save at a stop "
        "or at the end is written directly.",
    )
    export: ExportWhen = key(
        ExportWhen.auto,
        "Hugging Face model: at the `end` of the run, as a `job` after it, `never`; `auto`: at the end up to 4 "
        "billion parameters.",
    )
    max_shard_size_gb: float = key(5.0, "Largest safetensors file of an export, in 10^9 bytes.")
