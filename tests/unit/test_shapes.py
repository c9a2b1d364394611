"""Parameters by formula equal those of the model that transformers makes."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.plan.shapes import FAMILIES, count_parameters, hidden_size

BASE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 211}
GROUPED = {**BASE, "num_key_value_heads": 2}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("llama", GROUPED),
    ("llama", {**GROUPED, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "head_dim": 8}),
    ("mistral", {**GROUPED, "head_dim": 16}),
    ("mixtral", {**GROUPED, "num_local_experts": 3}),
    ("phi3", {**GROUPED, "pad_token_id": 0}),
    ("qwen2", {**GROUPED, "tie_word_embeddings": True}),
    ("qwen3", {**GROUPED, "head_dim": 32}),
    ("qwen3", {**GROUPED, "attention_bias": True}),
    ("gemma", {**GROUPED, "head_dim": 24}),
    ("gemma2", GROUPED),
    ("gemma3_text", {**GROUPED, "head_dim": 32}),
    ("olmo2", GROUPED),
    ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "vocab_size": 211}),
    ("gpt_neox", BASE),
]


def test_formulas_agree_with_transformers() -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    seen = set()
    for model_type, shape in CASES:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **shape))
        assert count_parameters({"model_type": model_type, **shape}) == model.num_parameters(), (model_type, shape)
        seen.add(model_type)
    assert seen == {*FAMILIES, "gpt2", "gpt_neox"}


@pytest.mark.parametrize(
    "shape", [{"model_type": "mamba"}, {"model_type": "llama"}, {}], ids=["unknown", "no sizes", "nothing"]
)
def test_what_is_not_known_is_not_guessed(shape: dict[str, Any]) -> None:
    assert count_parameters(shape) is None


def test_hidden_size_under_any_name() -> None:
    assert hidden_size({"n_embd": 3}) == 3
    assert hidden_size({"text_config": {"hidden_size": 5}}) == 5
    assert hidden_size({}) is None
