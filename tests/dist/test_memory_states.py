"""The plan's model states and buffers against the tensors that real engines hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.dist.harness import launch_each
from tests.dist.live_bytes import Case, expected, measured, most, plan_of, write_shape

pytestmark = pytest.mark.dist
TOLERANCE = 0.05
CASES = [
    Case("llama", 0, "fp32"),
    Case("llama", 1, method="lora"),
    Case("gemma3_text", 1),
    Case("gemma3_text", 2),
    Case("qwen3", 2, offload="optimizer"),
    Case("llama", 3),
    Case("mixtral", 3),
    Case("t5", 3, "fp32", offload="all"),
]


def weighed(cases: Sequence[Case], folder: Path) -> list[tuple[Case, dict[str, float], dict[str, int]]]:
    """Each case with what is expected and what the rank that holds most held, in bytes by moment."""
    for kind in {case.model_type for case in cases}:
        write_shape(folder / kind, kind)
    plans = [plan_of(case, folder / case.model_type) for case in cases]
    [ranks] = launch_each(measured, cases[0].ranks, [(plans,)])
    return [
        (case, expected(case, folder / case.model_type), most(found))
        for case, *found in zip(cases, *ranks, strict=True)
    ]


def test_model_states_and_buffers_are_as_planned(tmp_path: Path) -> None:
    found = weighed(CASES, tmp_path)
    assert len(found) == len(CASES)
    for case, planned, held in found:
        assert held == pytest.approx(planned, rel=TOLERANCE), case.name
