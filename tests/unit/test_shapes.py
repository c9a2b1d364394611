"""Parameters by formula equal those of the model that transformers makes, and of PEFT's around it."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from conf.adapters import FUSED_EXPERTS
from conf.schema import RunConfig, TaskName
from launcher.facts.architecture import Workshop, made_shape
from launcher.plan.shapes.known import KNOWN, count_parameters, hidden_size, shape_of
from launcher.plan.trainable import trained_of

BASE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 211}
GROUPED = {**BASE, "num_key_value_heads": 2}
EXPERTS = {**GROUPED, "num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40}
GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "vocab_size": 211}
DISTILBERT = {"dim": 64, "hidden_dim": 96, "n_layers": 3, "n_heads": 4, "vocab_size": 211}
T5 = {"d_model": 64, "d_kv": 8, "d_ff": 96, "num_layers": 3, "num_heads": 4, "vocab_size": 211}
BART = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 80,
    "max_position_embeddings": 128,
    "vocab_size": 211,
}
CAUSAL, PAIR, LABELS = TaskName.causal_lm, TaskName.seq2seq_lm, TaskName.seq_cls
CASES: list[tuple[TaskName, str, dict[str, Any]]] = [
    (CAUSAL, "llama", GROUPED),
    (
        CAUSAL,
        "llama",
        {**GROUPED, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "head_dim": 8},
    ),
    (CAUSAL, "mistral", {**GROUPED, "head_dim": 16}),
    (CAUSAL, "mixtral", {**GROUPED, "num_local_experts": 3}),
    (CAUSAL, "granite", {**GROUPED, "attention_bias": True, "mlp_bias": True}),
    (CAUSAL, "smollm3", {**GROUPED, "pad_token_id": 0}),
    (CAUSAL, "phi", BASE),
    (CAUSAL, "phi", {**GROUPED, "tie_word_embeddings": True}),
    (CAUSAL, "qwen2_moe", EXPERTS),
    (CAUSAL, "qwen2_moe", {**EXPERTS, "decoder_sparse_step": 2, "qkv_bias": False}),
    (CAUSAL, "qwen3_moe", EXPERTS),
    (CAUSAL, "qwen3_moe", {**EXPERTS, "mlp_only_layers": [1], "tie_word_embeddings": True}),
    (CAUSAL, "olmo", GROUPED),
    (CAUSAL, "olmo", {**BASE, "attention_bias": True, "tie_word_embeddings": True}),
    (CAUSAL, "olmo3", GROUPED),
    (CAUSAL, "phi3", {**GROUPED, "pad_token_id": 0}),
    (CAUSAL, "qwen2", {**GROUPED, "tie_word_embeddings": True}),
    (CAUSAL, "qwen3", {**GROUPED, "head_dim": 32}),
    (CAUSAL, "qwen3", {**GROUPED, "attention_bias": True}),
    (CAUSAL, "gemma", {**GROUPED, "head_dim": 24}),
    (CAUSAL, "gemma2", GROUPED),
    (CAUSAL, "gemma3_text", {**GROUPED, "head_dim": 32}),
    (CAUSAL, "olmo2", GROUPED),
    (CAUSAL, "gpt2", GPT2),
    (CAUSAL, "gpt_neox", BASE),
    (PAIR, "t5", T5),
    (PAIR, "t5", {**T5, "feed_forward_proj": "gated-gelu", "num_decoder_layers": 2, "tie_word_embeddings": False}),
    (PAIR, "mt5", T5),
    (PAIR, "mt5", {**T5, "tie_word_embeddings": False}),
    (PAIR, "bart", BART),
    (LABELS, "bert", BASE),
    (LABELS, "bert", {**BASE, "type_vocab_size": 1, "max_position_embeddings": 70}),
    (LABELS, "roberta", BASE),
    (LABELS, "xlm-roberta", BASE),
    (LABELS, "camembert", {**BASE, "type_vocab_size": 1}),
    (LABELS, "distilbert", DISTILBERT),
    (LABELS, "llama", GROUPED),
    (LABELS, "qwen2", {**GROUPED, "tie_word_embeddings": True}),
    (LABELS, "gpt2", GPT2),
    (LABELS, "gpt_neox", BASE),
    (LABELS, "phi", BASE),
    (LABELS, "qwen3_moe", EXPERTS),
]
LORA = {"peft_type": "LORA", "r": 4, "target_modules": "all-linear"}
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "two layers frozen": {"freeze_layers": 2},
    "patterns": {"freeze_layers": 1, "freeze": ["*o*weight"], "unfreeze": ["*.0.*"]},
    "lora": {"peft": LORA},
    "dora": {"peft": {**LORA, "use_dora": True}},
    "lora of names": {"peft": {**LORA, "target_modules": ["q_proj", "query", "q", "c_attn", "fc1"]}},
    "lora of a pattern": {"peft": {**LORA, "target_modules": r".*\.(0|1)\..*(v_proj|value|wo|c_proj)"}},
    "lora from the weights": {"peft": {**LORA, "init_lora_weights": "gaussian"}},
    "lora of some layers": {"peft": {**LORA, "target_modules": ["q_proj", "query"], "layers_to_transform": [1]}},
    "lora left out": {"peft": {**LORA, "exclude_modules": ["k_proj", "key", "k", "c_attn", "query_key_value"]}},
    "lora left out by a pattern": {"peft": {**LORA, "exclude_modules": r".*\.1\..*"}},
    "modules saved": {"peft": {**LORA, "modules_to_save": ["embed_tokens", "wte", "shared", "down_proj", "norm"]}},
    "head saved": {"peft": {**LORA, "modules_to_save": ["lm_head", "embed_out"]}},
    "lora of experts": {"peft": {**LORA, "target_modules": ["down_proj", "w2", "v_proj"]}},
    "lora of all of an expert": {"peft": {**LORA, "target_modules": ["gate_proj", "up_proj", "w1", "w3", "q_proj"]}},
    "ia3": {"peft": {"peft_type": "IA3"}},
    "ia3 of names": {"peft": {"peft_type": "IA3", "target_modules": ["k_proj", "fc2"], "feedforward_modules": ["fc2"]}},
    "prompt tuning": {"peft": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 5}},
    "p-tuning": {"peft": {"peft_type": "P_TUNING", "num_virtual_tokens": 5}},
    "p-tuning of a width": {"peft": {"peft_type": "P_TUNING", "num_virtual_tokens": 5, "encoder_hidden_size": 9}},
    "prefix tuning": {"peft": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 5}},
    "prefix through a network": {
        "peft": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 5, "prefix_projection": True}
    },
}
"""What `method` says → trained parameters are counted and compared."""


FAMILIES_OF_PEFT = ("mixtral", "qwen2_moe")


def made(task: TaskName, model_type: str, shape: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoConfig

    from train.model.model import auto_class

    extra = {"num_labels": 5} if task is LABELS else {}
    with torch.device("meta"):
        return auto_class(task).from_config(AutoConfig.for_model(model_type, **shape, **extra))


def test_weights_have_the_names_and_shapes_that_transformers_gives_them() -> None:
    seen = set()
    for task, model_type, shape in CASES:
        known = shape_of({"model_type": model_type, **shape}, task, 5)
        assert known is not None
        model = made(task, model_type, shape)
        counted = {weight.name: weight.shape for weight in known.weights}
        assert counted == {name: tuple(one.shape) for name, one in model.named_parameters()}, (task, model_type, shape)
        assert known.parameters == model.num_parameters() == sum(known.groups.values())
        assert known.tied == (model.get_output_embeddings() is not None and _is_tied(model))
        seen.add(model_type)
    assert seen == KNOWN


def _is_tied(model: Any) -> bool:
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("name", METHODS)
def test_trained_parameters_agree_with_the_method(name: str) -> None:
    from train.methods.adapter import add_adapter
    from train.methods.freezing import freeze

    counted = 0
    for task, model_type, shape in CASES:
        config = RunConfig()
        config.task.name, config.method.name = task, name
        for key, value in METHODS[name].items():
            setattr(config.method, key, value)
        known = {"model_type": model_type, **shape}
        weights = shape_of(known, task, 5)
        assert weights is not None
        expected = trained_of(config, weights, known)
        if expected is None or not expected.counted:
            continue
        model = made(task, model_type, shape)
        if config.method.peft:
            model = add_adapter(model, config.method.peft, task, 0)
        freeze(model, config.method)
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        assert expected.parameters == trained, (name, task, model_type, shape)
        counted += 1
    assert counted >= 10


def test_experts_that_lora_changes_are_those_of_peft() -> None:
    from peft.utils import transformers_weight_conversion as peft
    from transformers import CONFIG_MAPPING

    patterns = {kind: one for kind, one in peft._MODEL_TO_CONVERSION_PATTERN.items() if kind in CONFIG_MAPPING}
    known = {kind: peft._MOE_TARGET_MODULE_MAPPING[one] for kind, one in patterns.items() if one in FAMILIES_OF_PEFT}
    assert known == FUSED_EXPERTS


@pytest.mark.parametrize("kind", ["glm4_moe", "deepseek_v3", "olmoe"])
def test_lora_on_experts_of_models_that_are_made(kind: str) -> None:
    from transformers import AutoConfig

    from train.methods.adapter import add_adapter

    own = {**EXPERTS, "n_routed_experts": 4, "kv_lora_rank": 8, "q_lora_rank": 16, "qk_rope_head_dim": 8}
    own |= {
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "pad_token_id": 0,
    }
    shape = AutoConfig.for_model(kind, **own).to_dict()
    workshop = Workshop(sys.executable, dict(os.environ))
    weights = made_shape(shape, CAUSAL, 0, workshop).shape
    assert weights is not None
    for targets in ("all-linear", ["o_proj", "down_proj"], ["gate_proj", "up_proj"]):
        config = RunConfig()
        config.method.peft = {**LORA, "target_modules": targets}
        expected = trained_of(config, weights, shape)
        assert expected is not None
        model = add_adapter(made(CAUSAL, kind, own), config.method.peft, CAUSAL, 0)
        assert expected.parameters == sum(one.numel() for one in model.parameters() if one.requires_grad), targets
        assert expected.counted


@pytest.mark.parametrize(
    "shape", [{"model_type": "mamba"}, {"model_type": "llama"}, {}], ids=["unknown", "no sizes", "nothing"]
)
def test_what_is_not_known_is_not_guessed(shape: dict[str, Any]) -> None:
    assert count_parameters(shape) is None


def test_hidden_size_under_any_name() -> None:
    assert hidden_size({"n_embd": 3}) == 3
    assert hidden_size({"text_config": {"hidden_size": 5}}) == 5
    assert hidden_size({}) is None


def test_experts_are_counted_under_either_name() -> None:
    saved = {name: value for name, value in EXPERTS.items() if name != "num_experts"}
    found = [
        count_parameters({"model_type": "qwen3_moe", **one}) for one in (EXPERTS, {**saved, "num_local_experts": 4})
    ]
    assert found[0] is not None
    assert found[0] == found[1]
