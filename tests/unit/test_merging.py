"""The proof of a merged adapter sees what is lost or added twice, however little the adapter has learned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft.tuners.lora.layer import Linear
from transformers import AutoConfig, AutoModelForCausalLM

from conf.schema import TaskName
from train.export.merging import differing, merged_in_fp32
from train.export.proof import logits_of
from train.methods.adapter import add_adapter

CPU = torch.device("cpu")
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 96}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 4}


def barely_trained(tied: bool = False) -> Any:
    """LoRA in bf16 after one step with a learning rate of 1e-4: every weight of B is 1e-4 or its opposite."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("llama", **SHAPE, tie_word_embeddings=tied), dtype=torch.bfloat16
    )
    peft = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
    adapted = add_adapter(model, peft, TaskName.causal_lm, 1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_().sign_().mul_(1e-4)
    return adapted.eval()


@pytest.mark.parametrize("tied", [False, True])
def test_a_sound_merge_is_verified_and_rounded_once(tied: bool) -> None:
    adapted = barely_trained(tied)
    layer = adapted.base_model.model.model.layers[1].self_attn.q_proj
    wanted = (layer.base_layer.weight.float() + layer.get_delta_weight("default").float()).detach()
    merge = merged_in_fp32(adapted, CPU)
    assert merge.found.verified, merge.found.reason
    torch.testing.assert_close(merge.model.model.layers[1].self_attn.q_proj.weight.float(), wanted, rtol=8e-3, atol=0)
    assert {tensor.dtype for tensor in merge.model.state_dict().values()} == {torch.bfloat16}
    assert merge.model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert logits_of(merge.model, merge.model.config, CPU).isfinite().all()


@pytest.mark.parametrize("times", [0, 2])
@pytest.mark.parametrize("only", [None, "first"])
def test_an_adapter_lost_or_added_twice_is_seen(monkeypatch: pytest.MonkeyPatch, times: int, only: str | None) -> None:
    merge = Linear.merge
    adapted = barely_trained()
    broken = adapted.base_model.model.model.layers[0].mlp.down_proj

    def wrong(layer: Linear, *arguments: Any, **named: Any) -> None:
        for _ in range(times if only is None or layer is broken else 1):
            layer.merged_adapters.clear()
            merge(layer, *arguments, **named)

    monkeypatch.setattr(Linear, "merge", wrong)
    found = merged_in_fp32(adapted, CPU).found
    assert not found.verified
    assert "more than" in found.reason


def test_a_bit_that_differs_in_the_files_is_seen() -> None:
    plain = merged_in_fp32(barely_trained(), CPU).model.state_dict()
    read = {name: tensor.clone() for name, tensor in plain.items()}
    assert differing(plain, read) is None
    name = "model.layers.1.mlp.up_proj.weight"
    read[name].view(torch.int16)[3, 4] ^= 1
    assert differing(plain, read) == f"read back otherwise than written: {name}"
    del read[name]
    assert name in str(differing(plain, read))
