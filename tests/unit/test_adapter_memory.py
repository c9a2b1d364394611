"""What adapters need: what they keep against what autograd keeps, and plans of methods that no formula counts."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

from conf.record import Plan
from launcher.facts.model import ModelFacts
from launcher.plan.adapter import Adapter, adapter_of
from launcher.plan.memory.verdict import refusals
from launcher.plan.plan import make_plan
from launcher.plan.shapes.known import shape_of
from launcher.show.memory_page import device_title
from tests.unit.planned import config_of, facts_of
from tests.unit.test_memory import LLAMA_8B

ELEMENT = 2
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 211,
}
LLAMA: dict[str, Any] = {"model_type": "llama", **SMALL}
MIXTRAL: dict[str, Any] = {"model_type": "mixtral", **SMALL, "num_local_experts": 3}
MIXTRAL_8X7B: dict[str, Any] = {
    **LLAMA_8B,
    "model_type": "mixtral",
    "vocab_size": 32000,
    "num_local_experts": 8,
}
LORA = {"peft_type": "LORA", "r": 4, "target_modules": "all-linear"}
DORA = {**LORA, "use_dora": True}
IA3 = {"peft_type": "IA3", "target_modules": ["k_proj", "v_proj"], "feedforward_modules": []}


def counted(shape: dict[str, Any], peft: dict[str, Any]) -> Adapter:
    weights = shape_of(shape)
    assert weights is not None
    found = adapter_of(peft, weights, shape)
    assert found is not None
    return found


def kept(shape: dict[str, Any], peft: dict[str, Any], tokens: int) -> tuple[int, int]:
    """Bytes that autograd keeps after a forward pass: of all tensors that are no parameters, of those of experts."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from conf.schema import TaskName
    from train.methods.adapter import add_adapter

    class Kept:
        def __init__(self, tensor: torch.Tensor):
            self.tensor = tensor

    seen: list[weakref.ref[Kept]] = []

    def pack(tensor: torch.Tensor) -> Kept:
        one = Kept(tensor)
        seen.append(weakref.ref(one))
        return one

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape), dtype=torch.bfloat16)
    model = add_adapter(model, peft, TaskName.causal_lm, 0).train()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one.tensor):
        loss = model(input_ids=torch.zeros((1, tokens), dtype=torch.long), use_cache=False).logits.sum()
    storages = {
        one.tensor.untyped_storage().data_ptr(): one.tensor.untyped_storage().nbytes()
        for one in (ref() for ref in seen)
        if one is not None and one.tensor.untyped_storage().data_ptr() not in own
    }
    assert loss.requires_grad
    experts = int(shape.get("num_local_experts", 0)) * int(shape["intermediate_size"]) * int(shape["hidden_size"])
    made = [size for size in storages.values() if size in (ELEMENT * experts, 2 * ELEMENT * experts)]
    return sum(storages.values()), sum(made)


@pytest.mark.parametrize("peft", [DORA, IA3], ids=["dora", "ia3"])
def test_an_adapter_keeps_of_a_token_what_autograd_keeps(peft: dict[str, Any]) -> None:
    """Beside what LoRA keeps on the same layers; by two lengths, so that what is no token's is left out."""
    base = {**LORA, "target_modules": peft["target_modules"]}

    def each(one: dict[str, Any]) -> float:
        return (kept(LLAMA, one, 40)[0] - kept(LLAMA, one, 24)[0]) / 16

    lora, other = counted(LLAMA, base), counted(LLAMA, peft)
    # LoRA keeps the input of queries, keys and values once, which the formulas of the layers count; IA³ needs none
    inputs = 0 if peft is DORA else 64 * SMALL["num_hidden_layers"]
    assert each(peft) - each(base) == pytest.approx(ELEMENT * (other.kept - lora.kept - inputs))


def test_lora_on_experts_keeps_the_weights_that_it_makes() -> None:
    attention = {**LORA, "target_modules": ["q_proj", "v_proj"]}
    assert counted(MIXTRAL, attention).made == kept(MIXTRAL, attention, 8)[1] == 0
    assert ELEMENT * counted(MIXTRAL, LORA).made == kept(MIXTRAL, LORA, 8)[1] > 0


def planned(shape: dict[str, Any], *overrides: str) -> Plan:
    words = ("model=hf", "model.model_name_or_path=/m", "cluster=slurm", "cluster.gres=gpu:h100:8")
    facts = facts_of(model=ModelFacts(folder="/m", config=shape), free_bytes=10**13)
    return make_plan(config_of(*words, *overrides), facts)


def peak(plan: Plan) -> float:
    assert plan.memory is not None
    assert plan.memory.device is not None
    return plan.memory.device.peak.likely / (1 << 30)


@pytest.mark.parametrize(
    "method",
    [
        ["method=ia3"],
        ["method=p_tuning"],
        ["method=prefix_tuning"],
        ["method=dora"],
        ["method=lora", "method.peft.init_lora_weights=pissa"],
        ["method=lora", "method.peft.modules_to_save=[lm_head]"],
        ["method=lora", "method.peft.exclude_modules=[q_proj]"],
        ["method=lora", "method.peft.bias=all"],
        ["method=peft", "method.peft.peft_type=OFT"],
        ["method=peft", "method.peft.peft_type=LORA", "method.peft.rank_pattern={q_proj: 4}"],
    ],
    ids=lambda words: words[-1].removeprefix("method."),
)
def test_no_adapter_is_planned_as_full_fine_tuning(method: list[str]) -> None:
    words = ("cluster.gres=gpu:h100:1", "parallel=zero2", "data.max_length=512", "train.per_device_train_batch_size=1")
    plan = planned(LLAMA_8B, *words, *method)
    assert 15 < peak(plan) < 35 < 120 < peak(planned(LLAMA_8B, *words))
    assert not refusals(plan.memory)
    assert plan.memory is not None
    assert plan.memory.disk is not None
    checkpoints = next(term for term in plan.memory.disk.terms if term.name == "checkpoints")
    assert checkpoints.likely < 10 << 30


def test_what_is_not_counted_is_said_and_refuses_nothing() -> None:
    words = ("method=peft", "method.peft.peft_type=OFT", "parallel=zero2", "data.max_length=512")
    plan = planned(LLAMA_8B, *words)
    assert plan.memory is not None
    assert plan.memory.device is not None
    assert plan.trainable_parameters is None
    assert any(text.startswith("what the adapter trains") for text in plan.memory.unknown)
    assert "fits without its adapter's activations" in device_title(plan.memory.device)
    small = planned(LLAMA_8B, *words, "cluster.gpu_memory_gib=4")
    assert small.memory is not None
    assert small.memory.device is not None
    assert small.memory.device.fits is False
    assert refusals(small.memory) == []


def test_an_adapter_without_formula_over_4_bits_has_packed_weights() -> None:
    words = ("parallel=zero2", "data.max_length=512", "train.per_device_train_batch_size=1", "method.peft.bias=all")
    assert peak(planned(LLAMA_8B, *words, "method=qlora")) < peak(planned(LLAMA_8B, *words, "method=lora")) - 9


def test_lora_on_experts_is_counted() -> None:
    """8 x 14,336 x 4,096 weights three times in each of 32 layers, none of which has an optimizer."""
    words = ("parallel=zero3", "train.gradient_checkpointing=true", "method.peft.lora_dropout=0")
    plan = planned(MIXTRAL_8X7B, "method=lora", *words)
    attention = 2 * (4096 + 4096) + 2 * (4096 + 1024)
    experts = 8 * (2 * (4096 + 2 * 14336) + (14336 + 4096))
    assert plan.trainable_parameters == 32 * 16 * (attention + (4096 + 8) + experts)
    assert peak(plan) < 30
    assert not refusals(plan.memory)


def test_quantized_weights_are_loaded_whole_before_zero_3_shards_them() -> None:
    large = LLAMA_8B | {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80}
    plan = planned(large | {"num_attention_heads": 64}, "method=qlora", "parallel=zero3", "cluster.gres=gpu:a100:8")
    assert plan.memory is not None
    assert plan.memory.device is not None
    (load,) = [moment for moment in plan.memory.device.moments if moment.name == "load"]
    matrices = 80 * (2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672)
    tables = 2 * 128256 * 8192
    assert load.likely > 0.5625 * matrices + 2 * tables
    assert load.likely > (plan.memory.device.capacity or 0)
    assert refusals(plan.memory)
