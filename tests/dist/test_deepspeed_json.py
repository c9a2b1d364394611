"""Real DeepSpeed reads what the plan writes, for every preset and precision."""

from __future__ import annotations

import copy

import pytest

from launcher.facts.facts import Facts
from launcher.plan.plan import make_plan
from tests.unit.planned import config_of
from tests.unit.test_zero import PRESETS

pytestmark = pytest.mark.dist


def test_deepspeed_takes_every_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    from deepspeed.runtime.config import DeepSpeedConfig

    seen = 0
    for preset in PRESETS:
        for precision in ("bf16", "fp32"):
            config = config_of(f"parallel={preset}", f"train.precision={precision}")
            written = make_plan(config, Facts(run_root="/runs")).layout.deepspeed
            read = DeepSpeedConfig(copy.deepcopy(written))
            assert read.zero_config.stage == config.parallel.zero_stage
            assert read.gradient_clipping == config.optim.max_grad_norm
            assert read.zero_config.reduce_bucket_size == written["zero_optimization"]["reduce_bucket_size"]
            assert (read.zero_config.offload_optimizer is not None) == preset.endswith("offload")
            seen += 1
    assert seen == 14
