"""The batch equation: tables of cases, and properties over many numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.record import Batch
from conf.schema import TrainConfig
from launcher.plan import batch as batches


def train(total: int, micro: int | None = None, accumulation: int | None = None) -> TrainConfig:
    return TrainConfig(
        global_batch_size=total, per_device_train_batch_size=micro, gradient_accumulation_steps=accumulation
    )


@pytest.mark.parametrize(
    ("given_batch", "ranks", "expected"),
    [
        pytest.param(train(16), 2, Batch(2, 16, 8, 1), id="micro chosen"),
        pytest.param(train(24), 1, Batch(1, 24, 8, 3), id="largest divisor up to 8"),
        pytest.param(train(26), 2, Batch(2, 26, 1, 13), id="prime share"),
        pytest.param(train(64, micro=4), 4, Batch(4, 64, 4, 4), id="micro given"),
        pytest.param(train(64, accumulation=2), 4, Batch(4, 64, 8, 2), id="accumulation given"),
        pytest.param(train(64, 8, 2), 4, Batch(4, 64, 8, 2), id="both given"),
    ],
)
def test_padded_batch(given_batch: TrainConfig, ranks: int, expected: Batch) -> None:
    assert batches.padded_batch(given_batch, ranks) == expected


@pytest.mark.parametrize(
    ("given_batch", "ranks"),
    [(train(10), 4), (train(16, micro=3), 2), (train(64, 8, 4), 4), (train(16, accumulation=3), 2)],
    ids=["ranks", "micro", "both", "accumulation"],
)
def test_padded_batch_that_does_not_fit_is_refused(given_batch: TrainConfig, ranks: int) -> None:
    with pytest.raises(ValueError, match="is not"):
        batches.padded_batch(given_batch, ranks)


@pytest.mark.parametrize(
    ("total", "unit", "expected"),
    [(1000, 256, [768, 1024]), (768, 256, [768]), (3, 8, [8]), (0, 4, [4])],
)
def test_nearest_global(total: int, unit: int, expected: list[int]) -> None:
    assert batches.nearest_global(total, unit) == expected


@given(total=st.integers(1, 2048), ranks=st.integers(1, 64), other=st.integers(1, 128))
def test_padded_equation_holds_at_every_world_size(total: int, ranks: int, other: int) -> None:
    """global = micro × accumulation × ranks, exactly, also after a change of the world size."""
    if total % ranks:
        return
    planned = batches.padded_batch(train(total), ranks)
    found = [planned, batches.padded_at(planned, other)]
    assert (found[1] is None) == (total % other != 0)
    for batch in found:
        if batch is not None:
            assert batch.micro_batch_size * batch.accumulation * batch.world_size == total
            assert batch.micro_batch_size <= planned.micro_batch_size


@pytest.mark.parametrize(
    ("given_batch", "ranks", "max_length", "tokens", "expected"),
    [
        pytest.param(train(32), 2, 128, 64.0, Batch(2, 32, 16, 1), id="short documents, long rows"),
        pytest.param(train(32), 2, 4096, 2048.0, Batch(2, 32, 1, 8), id="one row of max_length"),
        pytest.param(train(32), 2, 4096, None, Batch(2, 32, 1, 16), id="unknown lengths count as full"),
        pytest.param(train(32, micro=2), 2, 512, 9999.0, Batch(2, 32, 2, 8), id="micro given, long documents cut"),
        pytest.param(train(5), 2, 512, 512.0, Batch(2, 5, 3, 1), id="no multiple of the ranks"),
    ],
)
def test_packed_batch(given_batch: TrainConfig, ranks: int, max_length: int, tokens: float, expected: Batch) -> None:
    assert batches.packed_batch(given_batch, ranks, max_length, tokens) == expected


def test_resumable_world_sizes_reach_twice_the_nodes_and_parts_of_one() -> None:
    assert batches.resumable_world_sizes(2, 4) == [1, 2, 3, 4, 5, 6, 7, 8, 12, 16]
    many = batches.resumable_world_sizes(1000, 8)
    assert 8000 in many
    assert len(many) <= batches.MANY_NODES + 17


@pytest.mark.parametrize(
    ("lengths", "total", "ranks", "low", "high"),
    [
        pytest.param([100] * 64, 64, 2, 1.0, 1.0, id="equal lengths"),
        pytest.param([100, 300] * 8, 2, 2, 0.6, 0.7, id="one document a rank"),
        pytest.param(list(range(10, 500)), 64, 2, 0.98, 1.0, id="many documents balance"),
    ],
)
def test_expected_share(lengths: list[int], total: int, ranks: int, low: float, high: float) -> None:
    share = batches.expected_share(lengths, total, ranks)
    assert share is not None
    assert low <= share <= high


def test_equation_in_words() -> None:
    assert batches.equation(Batch(2, 32, 4, 4), False, 128) == "32 documents = 4 micro batch × 4 accumulation × 2 ranks"
    packed = batches.equation(Batch(1, 32, 4, 1), True, 128)
    assert packed == "32 documents ≈ 1 rank × 1 row of up to 512 tokens"
