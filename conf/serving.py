"""What `muster serve` asks of the server process, and what a model's files say it can be served as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from conf.schema import TaskName

KEY_VARIABLE = "MUSTER_API_KEY"
"""The environment variable with the key that clients have to show. A key has no flag: arguments can be read by all."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")

PEFT_TASKS = {
    "CAUSAL_LM": TaskName.causal_lm,
    "SEQ_2_SEQ_LM": TaskName.seq2seq_lm,
    "SEQ_CLS": TaskName.seq_cls,
}
"""PEFT's `task_type` in adapter_config.json."""


@dataclass(frozen=True)
class ServeSettings:
    """How a model is served.

    `folder` is a Hugging Face model or a PEFT adapter; `base` replaces the base model that an adapter names. `port` 0
    takes a free one. `max_prompt_tokens` 0 is what the model can read; `threads` 0 leaves them to torch. `queue`
    requests wait while one is worked on; `timeout_s` counts from a request's arrival. `max_texts` of a request are
    worked on in batches of `batch_size`.
    """

    folder: str
    name: str
    base: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0
    max_request_bytes: int = 1 << 20
    max_prompt_tokens: int = 0
    max_new_tokens: int = 1024
    max_texts: int = 256
    batch_size: int = 32
    queue: int = 16
    timeout_s: float = 300.0
    trust_remote_code: bool = False

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK


def encode_settings(settings: ServeSettings) -> str:
    """The settings as one argument of the server process."""
    return msgspec.json.encode(settings).decode()


def decode_settings(text: str) -> ServeSettings:
    """What `encode_settings` wrote."""
    return msgspec.json.decode(text, type=ServeSettings)


def task_of(config: Mapping[str, Any]) -> TaskName | None:
    """What a model does, by its config.json; None where that is nothing Muster serves."""
    named = " ".join(config.get("architectures") or [])
    if "SequenceClassification" in named:
        return TaskName.seq_cls
    if config.get("is_encoder_decoder"):
        return TaskName.seq2seq_lm
    return TaskName.causal_lm if "CausalLM" in named or "LMHead" in named else None
