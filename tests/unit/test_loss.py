"""The summed loss against torch's cross entropy, its gradient, and what it leaves out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from train.data.tensors import target_positions
from train.model.loss import CHUNK, loss_sum

VOCABULARY = 11


class Table(torch.nn.Module):
    """A model whose logits are a table row for each position; it keeps the positions that it was asked for."""

    def __init__(self, rows: int, length: int, dtype: torch.dtype):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.randn(rows, length, VOCABULARY).to(dtype))
        self.kept: torch.Tensor | None = None

    def forward(self, input_ids: torch.Tensor, logits_to_keep: torch.Tensor | None = None) -> Any:
        self.kept = logits_to_keep
        return SimpleNamespace(logits=self.logits if logits_to_keep is None else self.logits[:, logits_to_keep])


def labels_of(rows: int, length: int, targets: str) -> torch.Tensor:
    labels = torch.randint(0, VOCABULARY, (rows, length))
    if targets == "some":
        labels[:, ::3] = -100
        labels[0, : length // 2] = -100
    if targets == "none":
        labels[:] = -100
    return labels


@pytest.mark.parametrize("trims", [True, False])
@pytest.mark.parametrize("targets", ["all", "some", "none"])
@pytest.mark.parametrize("shape", [(3, 7), (1, CHUNK), (1, 2 * CHUNK + 1)], ids=str)
def test_loss_and_gradient_equal_torch(shape: tuple[int, int], targets: str, trims: bool) -> None:
    torch.manual_seed(0)
    model = Table(*shape, torch.float32)
    labels = labels_of(*shape, targets)
    loss = loss_sum(model, {"input_ids": labels, "labels": labels}, trims)
    loss.backward()  # type: ignore[no-untyped-call]
    found, model.logits.grad = model.logits.grad, None
    expected = cross_entropy(model.logits.flatten(0, 1), labels.flatten(), reduction="sum", ignore_index=-100)
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(found, model.logits.grad, rtol=1e-5, atol=1e-7)


def test_bf16_logits_are_summed_in_fp32() -> None:
    torch.manual_seed(0)
    model = Table(1, 4000, torch.bfloat16)
    labels = labels_of(1, 4000, "all")
    loss = loss_sum(model, {"input_ids": labels, "labels": labels})
    loss.backward()  # type: ignore[no-untyped-call]
    expected = cross_entropy(model.logits.detach()[0].double(), labels[0], reduction="sum")
    assert loss.dtype is torch.float32
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-6)
    assert model.logits.grad is not None
    assert model.logits.grad.dtype is torch.bfloat16


def test_only_positions_with_a_target_in_some_row_get_logits() -> None:
    labels = torch.tensor([[-100, 5, -100, -100], [-100, -100, -100, 2]])
    model = Table(2, 4, torch.float32)
    loss_sum(model, {"input_ids": labels, "labels": labels})
    assert model.kept is not None
    assert model.kept.tolist() == [1, 3]
    assert target_positions(torch.full((2, 4), -100)).tolist() == [0]


def test_the_factor_of_the_loss_reaches_the_gradient() -> None:
    model = Table(1, 5, torch.float32)
    labels = labels_of(1, 5, "all")
    (loss_sum(model, {"input_ids": labels, "labels": labels}) * 0.0).backward()  # type: ignore[no-untyped-call]
    assert model.logits.grad is not None
    assert not model.logits.grad.any()
