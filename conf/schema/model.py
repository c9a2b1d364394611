"""Which model is trained, and where its first weights come from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional

from conf.schema.key import key


class ModelInit(Enum):
    """Where a model's first weights come from."""

    pretrained = "pretrained"
    random = "random"


@dataclass
class ModelConfig:
    """Which model is trained. `model=tiny`, `model=hf`, or a named one such as `model=llama3.1-8b`."""

    model_name_or_path: str = key(
        "", "A folder with a Hugging Face model, or a hub name. Empty only where `init=random` and `shape` is given."
    )
    revision: Optional[str] = key(
        None, "Hub commit, tag or branch; resolved to a commit at submit. Give a commit to repeat a run for certain."
    )
    tokenizer_name_or_path: Optional[str] = key(
        None,
        "Tokenizer folder or hub name. Null: the model's own. `train`: a byte-level BPE of `tokenizer_vocab_size` "
        "trained on the training data, for models made from a shape.",
    )
    tokenizer_vocab_size: int = key(
        512, "Vocabulary size, in tokens, of a tokenizer trained on the data (`tokenizer_name_or_path=train`)."
    )
    init: ModelInit = key(
        ModelInit.pretrained,
        "`pretrained` loads weights; `random` draws them from `shape` or the folder's config.json.",
    )
    shape: dict[str, Any] = key(
        {},
        "Keys of the model's config.json (`model_type`, `hidden_size`, …). Makes a random model, and lets a plan be "
        "made for a hub model without the network.",
    )
    attn_implementation: str = key(
        "auto",
        "Attention: `auto` takes Muster's per-document attention where the architecture allows it, else `sdpa`. "
        "Any name that transformers knows (`eager`, `sdpa`, `flash_attention_2`, …) is passed on.",
    )
    trust_remote_code: bool = key(
        False, "Run Python code that comes with a hub model. Refused unless `revision` is a full commit."
    )
    kwargs: dict[str, Any] = key({}, "Further arguments of `from_pretrained`, passed on as they are.")
