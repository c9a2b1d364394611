"""What Muster knows of model architectures, by the `model_type` of config.json."""

from __future__ import annotations

PACKABLE = frozenset(
    {
        "llama",
        "qwen2",
        "qwen3",
        "mistral",
        "gemma3_text",
        "phi3",
        "olmo2",
        "gpt2",
        "gpt_neox",
        "mixtral",
        "qwen3_moe",
    }
)
"""Architectures whose packed documents give the same logits and gradients as documents alone; each has a test.

Elsewhere transformers may let packed documents see each other without a word, so Muster does not pack there.
"""

RELATIVE_POSITIONS = frozenset({"t5", "mt5", "umt5", "longt5", "switch_transformers", "deberta-v2", "deberta"})
"""Architectures whose config.json names a number of positions (512 mostly) that does not limit the text's length."""

POSITIONS_AFTER_PADDING = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "xmod", "data2vec-text"})
"""Architectures that count positions from behind the padding token's id: 514 positions are texts of 512 tokens."""
