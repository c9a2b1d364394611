"""What a rank measures of itself beside the terms that it can see: the bytes that torch allocates, no more."""

from __future__ import annotations

import pytest

from conf.estimate import CORRECTION, UNSEEN, Estimate, Moment, Need, Term
from conf.record import Device
from tests.unit.planned import plan_of
from train.metrics.truth import expected_memory


def moment(name: str, **sizes: int) -> Moment:
    names = {"nccl": "NCCL", "context": "CUDA context"}
    return Moment(name, [Term(names.get(key, key), size, size - 1, size + 1) for key, size in sizes.items()])


def test_what_lies_outside_of_torch_is_not_compared() -> None:
    need = Need([moment("forward", weights=10, context=100, nccl=50, fragments=7), moment("step", weights=12, agent=9)])
    estimate = Estimate(need, None, None)
    assert expected_memory(estimate, Device.gpu) == (12, 11, 13)
    assert expected_memory(estimate, Device.cpu) is None
    assert expected_memory(None, Device.gpu) is None


def test_a_correction_is_told_but_never_learned_from() -> None:
    corrected = moment("step", weights=10, **{CORRECTION: 5})
    assert corrected.measurable() == (15, 13, 17)
    assert corrected.measurable(corrected=False) == (10, 9, 11)


@pytest.mark.parametrize("overrides", [(), ("cluster=slurm", "cluster.gres=gpu:h100:2", "train.precision=bf16")])
def test_the_unseen_terms_are_terms_of_plans(overrides: tuple[str, ...]) -> None:
    """A term that is renamed would silently be compared."""
    plan = plan_of(*overrides)
    assert plan.memory is not None
    needs = [need for need in (plan.memory.device, plan.memory.host) if need is not None]
    names = {term.name for need in needs for one in need.moments for term in one.terms}
    expected = UNSEEN if plan.memory.device is not None else {"agent"}
    assert expected <= names
