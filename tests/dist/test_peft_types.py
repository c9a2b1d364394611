"""Types of PEFT beside LoRA: each learns, the same whole and sharded, and has an adapter to export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.adapters import SHARDED
from tests.dist.harness import join_world, launch_each
from tests.dist.small_models import deepspeed_json, write_model

pytestmark = pytest.mark.dist

LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"}
KINDS: dict[str, dict[str, Any]] = {
    "dora": {**LORA, "use_dora": True},
    "rslora": {**LORA, "use_rslora": True},
    "embeddings": {**LORA, "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "IA3": {"peft_type": "IA3"},
    "LOHA": {"peft_type": "LOHA", "r": 4, "target_modules": ["q_proj", "v_proj"]},
    "HRA": {"peft_type": "HRA", "r": 4, "target_modules": ["q_proj"]},
    "LOKR": {"peft_type": "LOKR", "r": 4, "target_modules": ["q_proj", "v_proj"]},
    "OFT": {"peft_type": "OFT", "oft_block_size": 8, "target_modules": ["q_proj"]},
    "VERA": {"peft_type": "VERA", "r": 4, "target_modules": ["q_proj", "o_proj"]},
    "LN_TUNING": {"peft_type": "LN_TUNING", "target_modules": ["input_layernorm"]},
    "MISS": {"peft_type": "MISS", "r": 4, "target_modules": ["q_proj"]},
    "PROMPT_TUNING": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3},
    "PREFIX_TUNING": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3},
    "P_TUNING": {"peft_type": "P_TUNING", "num_virtual_tokens": 3, "encoder_hidden_size": 16},
}


def sweep(folder: Path, stage: int) -> dict[str, tuple[list[float], set[str]]]:
    """In a rank: three steps of every kind; the losses, and what an adapter file would hold."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.integrations import HfDeepSpeedConfig

    from conf.schema import MethodConfig, OptimConfig, TaskName
    from train.engine import Engine
    from train.export.adapter import gathered_adapter
    from train.methods.adapter import add_adapter
    from train.methods.freezing import freeze
    from train.model.optimizer import parameter_groups

    world = join_world()
    found = {}
    for name, peft in KINDS.items():
        if stage == 3 and peft["peft_type"] not in SHARDED:
            continue
        sharding = HfDeepSpeedConfig(deepspeed_json(stage)) if stage == 3 else None
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        model.config.use_cache = False
        model = add_adapter(model, peft, TaskName.causal_lm, 1)
        del sharding
        freeze(model, MethodConfig())
        optimizer = torch.optim.AdamW(parameter_groups(model.named_parameters(), OptimConfig(learning_rate=3e-2)))
        engine = Engine(model, optimizer, deepspeed_json(stage), world.device)
        engine.train()
        ids = torch.arange(3, 35).reshape(2, 16)
        steps = []
        for _ in range(3):
            loss = engine(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss
            engine.backward(loss, boundary=True)
            engine.step()
            steps.append(float(loss.detach()))
        found[name] = (steps, set(gathered_adapter(engine, world)))
        engine.close()
    return found


def test_methods_of_peft_learn_and_are_exported(tmp_path: Path) -> None:
    model = write_model(tmp_path, "llama")
    (sharded,), (whole,) = launch_each(sweep, 1, [(model, 3), (model, 2)])
    assert set(whole) == set(KINDS)
    assert set(whole) - set(sharded) == {"LOHA", "LN_TUNING"}
    for name, (steps, files) in whole.items():
        assert steps[-1] < steps[0], name
        assert files, name
    for name, (steps, files) in sharded.items():
        np.testing.assert_allclose(steps, whole[name][0], rtol=1e-5, err_msg=name)
        assert files == whole[name][1], name
