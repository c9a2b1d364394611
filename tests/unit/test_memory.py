"""Model states per rank against the formulas of the ZeRO paper, in bytes per parameter."""

from __future__ import annotations

import pytest

from conf.schema import Offload, ParallelConfig, Precision, Quantization
from launcher.plan.memory import Trained, in_words, model_states

GIGA = 10**9


@pytest.mark.parametrize(
    ("stage", "ranks", "precision", "expected"),
    [
        (0, 8, Precision.bf16, 16.0),
        (1, 8, Precision.bf16, 4 + 12 / 8),
        (2, 8, Precision.bf16, 2 + 14 / 8),
        (3, 8, Precision.bf16, 16 / 8),
        (0, 4, Precision.fp32, 16.0),
        (1, 4, Precision.fp32, 8 + 12 / 4),
        (2, 4, Precision.fp32, 4 + 16 / 4),
        (3, 4, Precision.fp32, 20 / 4),
    ],
)
def test_bytes_per_parameter(stage: int, ranks: int, precision: Precision, expected: float) -> None:
    states = model_states(GIGA, ParallelConfig(zero_stage=stage), precision, ranks)
    assert states.device / GIGA == pytest.approx(expected)
    assert states.host == 0


@pytest.mark.parametrize(
    ("optimizer", "weights", "device", "host"),
    [
        (Offload.cpu, Offload.none, (2 + 2) / 4, 12 / 4),
        (Offload.cpu, Offload.cpu, 2 / 4, (12 + 2) / 4),
    ],
    ids=["optimizer", "optimizer and weights"],
)
def test_offload_moves_states_to_the_host(optimizer: Offload, weights: Offload, device: float, host: float) -> None:
    parallel = ParallelConfig(zero_stage=3, offload_optimizer=optimizer, offload_param=weights)
    states = model_states(GIGA, parallel, Precision.bf16, 4)
    assert (states.device / GIGA, states.host / GIGA) == pytest.approx((device, host))
    assert "of host memory" in in_words(states)


def test_hpz_keeps_a_second_copy_of_the_weights() -> None:
    plain = model_states(GIGA, ParallelConfig(zero_stage=3), Precision.bf16, 8)
    second = model_states(GIGA, ParallelConfig(zero_stage=3, hpz_partition_size=4), Precision.bf16, 8)
    assert (second.device - plain.device) / GIGA == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    ("trained", "stage", "expected"),
    [
        (Trained(GIGA // 10), 2, 2 + 0.1 * 14 / 8),
        (Trained(GIGA // 100, beside=True), 2, 2.02 + 0.01 * 14 / 8),
        (Trained(GIGA // 100, beside=True), 3, (2.02 + 0.01 * 14) / 8),
        (Trained(GIGA // 100, True, 8 * GIGA // 10, Quantization.nf4), 1, 0.42 + 0.45 + 0.02 + 0.01 * 12 / 8),
    ],
    ids=["upper layers", "adapter", "adapter sharded", "adapter over 4 bits"],
)
def test_what_is_frozen_has_weights_alone(trained: Trained, stage: int, expected: float) -> None:
    states = model_states(GIGA, ParallelConfig(zero_stage=stage), Precision.bf16, 8, trained)
    assert states.device / GIGA == pytest.approx(expected)


def test_the_line_says_what_it_counts() -> None:
    states = model_states(2**26, ParallelConfig(zero_stage=0), Precision.bf16, 1)
    assert in_words(states) == "model states only (weights, gradients, optimizer): 1.0 GiB a rank"
