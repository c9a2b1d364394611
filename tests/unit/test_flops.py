"""Operations of a token by the convention of `train/flops.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from conf.flops import routed_share
from conf.schema import TaskName
from train.methods.adapter import add_adapter
from train.model.flops import matmul_parameters, mean_context, operations_per_token, peak_operations

LLAMA_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


def model_of(model_type: str, **shape: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **shape))


@pytest.mark.parametrize(("context", "gflop"), [(4096, 48.25), (8192, 51.47)])
def test_llama_8b(context: int, gflop: float) -> None:
    model = model_of("llama", **LLAMA_8B)
    assert operations_per_token(model, model.config, context) / 1e9 == pytest.approx(gflop, abs=0.005)


def test_a_tied_head_counts_once_and_an_embedding_not() -> None:
    shape = {**LLAMA_8B, "num_hidden_layers": 1}
    own, tied = (model_of("llama", **shape, tie_word_embeddings=tie) for tie in (False, True))
    assert matmul_parameters(own, own.config) == matmul_parameters(tied, tied.config)


def test_only_the_experts_of_a_token_count() -> None:
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "vocab_size": 128}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    two, eight = (model_of("mixtral", **shape, num_local_experts=8, num_experts_per_tok=count) for count in (2, 8))
    difference = matmul_parameters(eight, eight.config) - matmul_parameters(two, two.config)
    assert difference == 6 * 3 * 64 * 96


@pytest.mark.parametrize(
    ("experts", "routed"),
    [
        ("num_local_experts", "num_experts_per_tok"),
        ("num_experts", "num_experts_per_tok"),
        ("n_routed_experts", "num_experts_per_tok"),
        ("moe_num_experts", "moe_k"),
        ("n_routed_experts", "moe_topk"),
    ],
)
def test_experts_are_found_under_every_name_and_in_a_language_model_of_several(experts: str, routed: str) -> None:
    said = {experts: 128, routed: 8}
    assert routed_share(said) == routed_share({"text_config": said, "vision_config": {}}) == 1 / 16
    assert routed_share({experts: 128}) == routed_share({}) == 1


@pytest.mark.parametrize("kind", ["glm4_moe", "deepseek_v3", "ernie4_5_moe", "llama4", "gpt_oss", "qwen3_moe"])
def test_no_architecture_with_experts_is_dense(kind: str) -> None:
    """transformers' own configuration of each, whose keys are those of its config.json."""
    assert 0 < routed_share(AutoConfig.for_model(kind).to_dict()) < 1


def test_context_is_the_length_of_the_document_a_token_is_in() -> None:
    assert mean_context(np.array([10, 10], np.int32)) == 10
    assert mean_context(np.array([1, 9], np.int32)) == pytest.approx(8.2)
    assert mean_context(np.array([], np.int32)) == 0


def test_a_cpu_has_no_peak() -> None:
    assert peak_operations(torch.device("cpu")) is None


def test_a_token_meets_the_encoder_or_the_decoder() -> None:
    shape = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_heads": 2, "num_layers": 3, "vocab_size": 50}
    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model("t5", **shape))
    layer = 4 * 8 * 8 + 2 * 8 * 16
    read, written = 3 * layer, 3 * (layer + 4 * 8 * 8) + 50 * 8
    assert operations_per_token(model, model.config, 100, 0.25) == 6 * (0.75 * read + 0.25 * written)


SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "vocab_size": 128}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 4}
ATTENTION = 6 * 10 * 64 * 3
LAYER, HEAD = 4 * 64 * 64 + 3 * 64 * 96, 128 * 64


def operations(model: Any) -> float:
    return operations_per_token(model, model.config, 10) - ATTENTION


def test_frozen_weights_need_no_gradient_of_their_own() -> None:
    model = model_of("llama", **SMALL)
    assert operations(model) == 6 * (3 * LAYER + HEAD)
    model.lm_head.requires_grad_(False)
    assert operations(model) == 6 * 3 * LAYER + 4 * HEAD
    model.model.embed_tokens.requires_grad_(False)
    model.model.layers[0].requires_grad_(False)
    assert operations(model) == 2 * LAYER + 6 * 2 * LAYER + 4 * HEAD


def test_an_adapter_is_trained_over_frozen_weights() -> None:
    model = model_of("llama", **SMALL)
    peft = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    adapted = add_adapter(model, peft, TaskName.causal_lm, 1)
    assert operations(adapted) == 4 * 3 * LAYER + 6 * HEAD + 6 * 3 * (2 * 64 + 64 * 2)
    virtual = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3}
    with torch.device("cpu"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SMALL))
    assert operations(add_adapter(model, virtual, TaskName.causal_lm, 1)) == 4 * (3 * LAYER + HEAD)


def test_packed_weights_count_by_the_shape_they_stand_for() -> None:
    import bitsandbytes

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SMALL)).requires_grad_(False)
    for layer in model.model.layers:
        own = layer.mlp.down_proj.weight.data
        packed: Any = bitsandbytes.nn.Params4bit(own, requires_grad=False, quant_type="nf4")  # type: ignore[attr-defined]
        layer.mlp.down_proj.weight = packed.to("cpu")
        assert layer.mlp.down_proj.weight.shape != own.shape
    assert operations(model) == 2 * (3 * LAYER + HEAD)
