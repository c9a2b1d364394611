"""What is known of the model before a plan: config.json, bytes of weights, the commit of a hub name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelFacts:
    """The model as it was found.

    `folder` is the absolute local folder with config.json (of a hub name: the snapshot in the person's Hugging Face
    cache), empty where the model is made from `model.shape`. `config` is config.json's content with `model.shape`
    laid over it. `weights_bytes` is None where no weights are there. `error` is why the model cannot be used, or empty.
    """

    folder: str = ""
    commit: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    weights_bytes: int | None = None
    tokenizer_folder: str = ""
    has_tokenizer: bool = False
    has_chat_template: bool = False
    error: str = ""
    tokenizer_error: str = ""
