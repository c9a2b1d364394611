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
