"""What is trained: freezing and learning rates by names on real models, adapters' heads, and what is refused before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from conf.schema import MethodConfig, OptimConfig, TaskName
from train.methods.adapter import AdapterError, add_adapter
from train.methods.freezing import FrozenError, freeze, layer_stacks
from train.methods.method import share_of
from train.methods.names import PatternError, plain_name
from train.methods.quantization import head_modules, keep_stored
from train.model.optimizer import parameter_groups

SIZES: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2},
    "gpt2": {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32},
    "bert": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2},
    "roberta": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2},
    "distilbert": {"dim": 16, "hidden_dim": 24, "n_layers": 3, "n_heads": 2},
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 3, "num_heads": 2},
    "mixtral": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
    },
}
HEADS = {"bert": "classifier", "roberta": "classifier", "distilbert": "pre_classifier classifier"}


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=32, **SIZES[kind])
    if kind in HEADS:
        return AutoModelForSequenceClassification.from_config(config)
    return (AutoModelForSeq2SeqLM if kind == "t5" else AutoModelForCausalLM).from_config(config)


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("llama", {"model.layers.2", "model.norm", "lm_head"}),
        ("gpt2", {"transformer.h.2", "transformer.ln_f"}),
        ("bert", {"bert.encoder.layer.2", "bert.pooler", "classifier"}),
        ("roberta", {"roberta.encoder.layer.2", "classifier"}),
        ("distilbert", {"distilbert.transformer.layer.2", "pre_classifier", "classifier"}),
        ("t5", {"encoder.block.2", "decoder.block.2", "encoder.final_layer_norm", "decoder.final_layer_norm"}),
        ("mixtral", {"model.layers.2", "model.norm", "lm_head"}),
    ],
)
def test_the_first_layers_and_the_embeddings_are_frozen(kind: str, left: set[str]) -> None:
    model = model_of(kind)
    assert {len(stack) for _, stack in layer_stacks(model)} == {3}
    freeze(model, MethodConfig(freeze_layers=2))
    assert all(any(name.startswith(f"{one}.") for one in left) for name in trained(model))
    assert all(any(name.startswith(f"{one}.") for name in trained(model)) for one in left)


def test_patterns_freeze_and_take_out_again() -> None:
    model = model_of("llama")
    freeze(model, MethodConfig(freeze=["model.layers.*", "*embed*"], unfreeze=["*.1.mlp.*"]))
    expected = {f"model.layers.1.mlp.{name}_proj.weight" for name in ("gate", "up", "down")}
    assert trained(model) == {*expected, "model.norm.weight", "lm_head.weight"}
    share = share_of(model.parameters())
    assert share.trainable == 3 * 16 * 24 + 16 + 32 * 16
    assert share.in_words().startswith(f"trains 1,680 of {share.parameters:,} parameters (")


@pytest.mark.parametrize(
    ("method", "error", "words"),
    [
        (MethodConfig(freeze=["*embd*"]), PatternError, r"method.freeze: '\*embd\*' matches none .*embed_tokens"),
        (MethodConfig(unfreeze=["score"]), PatternError, "method.unfreeze: 'score' matches none"),
        (MethodConfig(freeze=["*"]), FrozenError, "method.freeze leaves no parameter to train"),
        (MethodConfig(freeze_layers=4), FrozenError, r"freeze_layers=4 is more than the model has: model.layers \(3\)"),
    ],
    ids=["unknown-pattern", "unknown-unfreeze", "nothing-left", "too-many-layers"],
)
def test_what_cannot_be_frozen_is_named(method: MethodConfig, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        freeze(model_of("llama"), method)


def test_learning_rates_by_pattern_keep_decay_apart() -> None:
    model = model_of("bert")
    rates = {"*classifier*": 1e-3, "bert.encoder.layer.2.*": 5e-4}
    optim = OptimConfig(learning_rate=2e-5, weight_decay=0.1, learning_rates=rates)
    groups = parameter_groups(model.named_parameters(), optim)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (rate, decay) for rate in (2e-5, 1e-3, 5e-4) for decay in (0.1, 0.0)
    ]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert [tuple(one.shape) for one in groups[2]["params"]] == [(2, 16)]
    with pytest.raises(PatternError, match=r"optim.learning_rates: '\*score\*' matches none"):
        parameter_groups(model.named_parameters(), OptimConfig(learning_rates={"*score*": 1e-3}))


@pytest.mark.parametrize("kind", HEADS)
def test_all_of_a_new_head_is_trained_beside_an_adapter(kind: str) -> None:
    model = model_of(kind)
    assert head_modules(model) == HEADS[kind].split()
    head = sum(p.numel() for name, p in model.named_parameters() if name.startswith(tuple(HEADS[kind].split())))
    peft = {"peft_type": "LORA", "r": 2, "target_modules": "all-linear"}
    adapted = add_adapter(model, peft, TaskName.seq_cls, 1)
    found = {plain_name(name): p for name, p in adapted.named_parameters() if p.requires_grad}
    assert sum(p.numel() for name, p in found.items() if "lora_" not in name) == head
    assert any("lora_A" in name for name in found)
    assert not any("base_model" in name or "default" in name for name in found)


def test_an_adapter_is_the_same_for_a_seed_and_leaves_the_random_state() -> None:
    peft = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}
    torch.manual_seed(5)
    drawn = []
    for seed in (1, 1, 2):
        model = model_of("llama")
        torch.manual_seed(7)
        adapted = add_adapter(model.bfloat16(), peft, TaskName.causal_lm, seed)
        drawn.append({name: p for name, p in adapted.named_parameters() if "lora_A" in name})
        assert all(p.dtype == torch.bfloat16 for p in adapted.parameters())
        assert float(torch.rand(1)) == pytest.approx(float(torch.rand(1, generator=torch.Generator().manual_seed(7))))
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    assert not any(torch.equal(drawn[0][name], drawn[2][name]) for name in drawn[0])


def test_what_peft_refuses_is_said_with_its_type() -> None:
    with pytest.raises(AdapterError, match=r"peft_type=LORA: .*nowhere"):
        add_adapter(model_of("llama"), {"peft_type": "LORA", "target_modules": ["nowhere"]}, TaskName.causal_lm, 1)


def test_recomputed_activations_give_adapters_the_same_gradients() -> None:
    gradients = []
    for recompute in (False, True):
        model = model_of("llama")
        model.config.use_cache = False
        if recompute:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        peft = {"peft_type": "LORA", "r": 2, "target_modules": "all-linear", "init_lora_weights": False}
        adapted = add_adapter(model, peft, TaskName.causal_lm, 1).train()
        adapted(input_ids=torch.arange(16)[None]).logits.square().sum().backward()
        gradients.append([p.grad for p in adapted.parameters() if p.requires_grad])
    assert len(gradients[0]) == 2 * 7 * 3
    assert all(one is not None and torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_an_evaluation_leaves_four_bit_weights_as_they_are_stored() -> None:
    """Processors with AVX-512 BF16 would have them laid out anew, with rounded scales; others have nothing to keep."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    layer = Linear4bit(64, 64, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
    torch.manual_seed(0)
    layer.weight = Params4bit(torch.randn(64, 64), requires_grad=False, quant_type="nf4")
    layer.to("cpu")
    keep_stored(nn.Sequential(layer))
    stored, scales = layer.weight.data.clone(), layer.weight.quant_state.absmax.clone()
    with torch.no_grad():
        layer.eval()(torch.randn(2, 64, dtype=torch.bfloat16))
    assert torch.equal(layer.weight.data, stored)
    assert torch.equal(layer.weight.quant_state.absmax, scales)
