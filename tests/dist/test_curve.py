"""One curve of loss and gradient norm, whatever the ZeRO stage, the ranks, the micro batch, and padded or packed.

The reference is plain torch: one document at a time, the mean over all target tokens of the step, no DeepSpeed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.layout import RunFolder
from conf.schema import Offload, RunConfig
from tests.dist.harness import launch_each
from tests.dist.runs import WORLD_SIZES, configuration, metrics, outcome, train_runs, write_documents, write_run
from tests.dist.small_models import write_model

pytestmark = pytest.mark.dist

STEPS = 5
Curve = list[tuple[float, float]]
"""Loss and gradient norm of each step."""


@dataclass(frozen=True)
class Case:
    """One way to compute the curve."""

    world: int
    stage: int
    packing: str
    micro: int
    precision: str = "fp32"
    offload: bool = False

    def __str__(self) -> str:
        offload = "-offload" if self.offload else ""
        return f"{self.precision}-{self.world}ranks-zero{self.stage}{offload}-{self.packing}-micro{self.micro}"

    @property
    def config(self) -> RunConfig:
        config = configuration(self.stage, self.micro, self.packing, STEPS, self.precision)
        if self.offload:
            config.parallel.offload_optimizer = Offload.cpu
        return config


SHAPES = [("none", 1), ("none", 2), ("exact", 1), ("exact", 2)]
EXACT = [
    *(Case(world, stage, *shape) for world in WORLD_SIZES for stage in range(4) for shape in SHAPES[stage % 2 :: 2]),
    *(Case(1, stage, "none", 8) for stage in (0, 3)),
    *(Case(2, stage, "exact", 1, offload=True) for stage in (2, 3)),
]
ROUNDED = [Case(2, stage, packing, micro, "bf16") for stage in (1, 2, 3) for packing, micro in (SHAPES[0], SHAPES[3])]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A small model and documents of uneven length; their number is no multiple of the global batch."""
    folder = tmp_path_factory.mktemp("data")
    lengths = np.random.default_rng(1).integers(4, 32, 19).tolist()
    splits = {
        "train": write_documents(folder / "train", lengths),
        "validation": write_documents(folder / "validation", lengths[:7], seed=1),
    }
    return write_model(folder / "model", "llama"), splits


@pytest.fixture(scope="module")
def runs(data: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Every case as a run, all cases of a world size in one set of ranks."""
    folder = tmp_path_factory.mktemp("runs")
    cases = EXACT + ROUNDED
    made = {str(case): write_run(folder / str(case), case.config, *data) for case in cases}
    for world in WORLD_SIZES:
        launch_each(train_runs, world, [([made[str(case)] for case in cases if case.world == world],)])
    return made


def curve(run: RunFolder) -> Curve:
    lines = [line for line in metrics(run) if "train/loss" in line]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return [(line["train/loss"], line["train/grad_norm"]) for line in lines]


def evaluations(run: RunFolder) -> list[float]:
    return [line["eval/loss"] for line in metrics(run) if "eval/loss" in line]


def reference(model_folder: Path, splits: dict[str, Any], config: RunConfig) -> tuple[Curve, list[float]]:
    """Plain torch and transformers, one document at a time: the curve, and the evaluations before and after."""
    import torch
    from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup

    from train.data.order import documents_of_step

    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    documents, validation = splits["train"].open(), splits["validation"].open()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": config.optim.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.optim.learning_rate)
    schedule = get_cosine_schedule_with_warmup(optimizer, int(config.schedule.warmup_steps), STEPS)

    def loss_of(document: Any) -> torch.Tensor:
        ids = torch.from_numpy(document.ids)
        labels = torch.where(torch.from_numpy(document.target_mask), ids, -100)
        logits = model(input_ids=ids[None]).logits[0, :-1]
        return torch.nn.functional.cross_entropy(logits, labels[1:], reduction="sum")

    def evaluated() -> float:
        with torch.no_grad():
            return float(sum(loss_of(d) for d in validation)) / int(validation.targets.sum())

    result: Curve = []
    before = evaluated()
    for step in range(1, STEPS + 1):
        chosen = documents_of_step(documents.mix, config.train.global_batch_size, config.train.seed, step)
        targets = int(documents.targets[chosen].sum())
        losses = []
        for index in chosen:
            loss = loss_of(documents[index]) / targets
            loss.backward()
            losses.append(float(loss.detach()))
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.max_grad_norm)
        result.append((sum(losses), float(norm)))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return result, [before, evaluated()]


@pytest.fixture(scope="module")
def expected(data: tuple[Path, dict[str, Any]]) -> tuple[Curve, list[float]]:
    return reference(*data, EXACT[0].config)


def test_the_cases_cover_what_may_vary() -> None:
    assert len(EXACT) == 36
    assert {(case.world, case.stage) for case in EXACT} == {(w, s) for w in WORLD_SIZES for s in range(4)}
    assert {case.packing for case in EXACT} == {"none", "exact"}
    assert {case.offload for case in EXACT} == {False, True}


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_fp32_is_one_curve(case: Case, runs: dict[str, RunFolder], expected: tuple[Curve, list[float]]) -> None:
    run = runs[str(case)]
    np.testing.assert_allclose(curve(run), expected[0], rtol=1e-6)
    np.testing.assert_allclose(evaluations(run), expected[1], rtol=1e-6)
    assert outcome(run).step == STEPS


@pytest.mark.parametrize("case", ROUNDED, ids=str)
def test_bf16_is_one_curve(case: Case, runs: dict[str, RunFolder], expected: tuple[Curve, list[float]]) -> None:
    losses = [loss for loss, _ in curve(runs[str(case)])]
    np.testing.assert_allclose(losses, [loss for loss, _ in curve(runs[str(ROUNDED[0])])], rtol=1e-3)
    np.testing.assert_allclose(losses, [loss for loss, _ in expected[0]], rtol=5e-3)
