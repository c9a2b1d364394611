"""The plan's formula of model states against the tensors that real engines hold."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from conf.schema import ParallelConfig, Precision
from launcher.plan.memory import model_states
from tests.dist.harness import join_world, launch_each
from tests.dist.small_models import open_engine, train_steps, write_model

pytestmark = pytest.mark.dist
RANKS = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of many small parameters, so that buckets of the size of the largest one hardly count."""
    folder = tmp_path_factory.mktemp("model")
    return write_model(folder, "llama", num_hidden_layers=14, hidden_size=64, intermediate_size=96)


def storages(model: Any = None) -> dict[int, int]:
    """Bytes of every live tensor's memory by its address, the gradients of `model` too, which Python may not list."""
    import torch

    gc.collect()
    tensors = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor)]
    if model is not None:
        tensors += [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    memories = [tensor.untyped_storage() for tensor in tensors]
    return {memory.data_ptr(): memory.nbytes() for memory in memories}


def measured(model: Path, cases: list[tuple[int, bool]]) -> list[tuple[int, int]]:
    """In a rank, for each case: parameters, and bytes of the tensors that live once gradients were added up."""
    import torch

    from train.model.parameters import parameter_count

    join_world()
    found = []
    for stage, bf16 in cases:
        before = storages()
        engine = open_engine(model, stage, bf16)
        train_steps(engine, 0, 1)
        ids = torch.arange(3, 19)[None]
        engine.backward(engine(input_ids=ids, labels=ids).loss, boundary=False)
        held = storages(engine.module)
        size = sum(size for address, size in held.items() if address not in before)
        found.append((parameter_count(engine.module.parameters()), size))
        engine.close()
        del engine
    return found


def test_model_states_are_as_planned(model: Path) -> None:
    cases = [(stage, precision) for stage in range(4) for precision in (Precision.fp32, Precision.bf16)]
    [ranks] = launch_each(measured, RANKS, [(model, [(stage, kind is Precision.bf16) for stage, kind in cases])])
    for found in ranks:
        planned = [
            model_states(parameters, ParallelConfig(zero_stage=stage), precision, RANKS).device
            for (stage, precision), (parameters, _) in zip(cases, found, strict=True)
        ]
        assert [held for _, held in found] == pytest.approx(planned, rel=0.02)
