"""Encoder-decoder models: one curve whatever the sharding, a toy learned, and an export that answers as the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.layout import RunFolder
from conf.outcome import State
from conf.record import encode_plan, read_plan
from conf.schema import RunConfig, Scheduler, TaskName
from tests.dist.harness import launch_each
from tests.dist.pairs import rows, write_pairs, write_t5
from tests.dist.runs import configuration, events, metrics, outcome, train_runs, write_run

pytestmark = pytest.mark.dist

STEPS = 4
LEARNING_STEPS = 80
Data = tuple[Path, dict[str, Any]]
CURVE = [(1, 0, 2), (1, 3, 8), (2, 1, 1), (2, 2, 2), (2, 3, 2), (4, 2, 1), (4, 3, 2)]
"""Ranks, ZeRO stage and micro batch of a run."""


def settings(stage: int, micro: int, steps: int, precision: str = "fp32") -> RunConfig:
    config = configuration(stage, micro, "none", steps, precision)
    config.task.name = TaskName.seq2seq_lm
    config.data.max_target_length = 8
    config.optim.learning_rate = 1e-2
    config.optim.weight_decay = 0.0
    config.task.predict_with_generate = False
    return config


def learning() -> RunConfig:
    config = settings(3, 8, LEARNING_STEPS)
    config.train.global_batch_size = 16
    config.train.eval_steps = LEARNING_STEPS // 2
    config.schedule.lr_scheduler_type = Scheduler.constant
    config.schedule.warmup_steps = 0
    config.task.generation = {"num_beams": 2}
    config.task.predict_with_generate = None
    return config


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("data")
    model = write_t5(folder / "t5")
    tokenizer = AutoTokenizer.from_pretrained(model)
    splits = {
        name: write_pairs(folder / name, tokenizer, rows(count, seed))
        for name, count, seed in (("train", 40, 1), ("validation", 19, 2))
    }
    return model, splits


def exporting(run: RunFolder) -> RunFolder:
    from dataclasses import replace

    run.run_json.write_text(encode_plan(replace(read_plan(run.run_json), export_at_end=True)))
    return run


@pytest.fixture(scope="module")
def runs(data: Data, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Every run of these tests, all of a number of ranks in one set of them."""
    folder = tmp_path_factory.mktemp("runs")
    made = {
        str(case): write_run(folder / "-".join(map(str, case)), settings(*case[1:], STEPS), *data) for case in CURVE
    }
    made["bf16"] = write_run(folder / "bf16", settings(2, 2, STEPS, "bf16"), *data)
    made["learned"] = exporting(write_run(folder / "learned", learning(), *data))
    for world in (1, 2, 4):
        own = [made[str(case)] for case in CURVE if case[0] == world]
        launch_each(train_runs, world, [([*own, made["bf16"], made["learned"]] if world == 2 else own,)])
    return made


def reference(data: Data) -> tuple[list[tuple[float, float]], list[float]]:
    """Plain torch, one document at a time: loss and gradient norm of each step, and the evaluations around them."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, get_cosine_schedule_with_warmup

    from train.data.order import documents_of_step

    folder, splits = data
    config = settings(0, 1, STEPS)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
    documents, validation = splits["train"].open(), splits["validation"].open()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.optim.learning_rate, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, int(config.schedule.warmup_steps), STEPS)

    def loss_of(document: Any) -> torch.Tensor:
        ids = torch.from_numpy(document.ids)
        mask = torch.from_numpy(document.target_mask)
        logits = model(input_ids=ids[~mask][None], labels=ids[mask][None]).logits[0]
        return torch.nn.functional.cross_entropy(logits, ids[mask], reduction="sum")

    def evaluated() -> float:
        with torch.no_grad():
            return float(sum(loss_of(document) for document in validation)) / int(validation.targets.sum())

    curve, before = [], evaluated()
    for step in range(1, STEPS + 1):
        chosen = documents_of_step(documents.mix, config.train.global_batch_size, config.train.seed, step)
        targets = int(documents.targets[chosen].sum())
        losses = [loss_of(documents[index]) / targets for index in chosen]
        torch.stack(losses).sum().backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.max_grad_norm)
        curve.append((sum(float(loss.detach()) for loss in losses), float(norm)))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return curve, [before, evaluated()]


@pytest.fixture(scope="module")
def expected(data: Data) -> tuple[list[tuple[float, float]], list[float]]:
    return reference(data)


def curve(run: RunFolder) -> list[tuple[float, float]]:
    return [(line["train/loss"], line["train/grad_norm"]) for line in metrics(run) if "train/loss" in line]


def evaluations(run: RunFolder, name: str) -> list[float]:
    return [line[f"eval/{name}"] for line in metrics(run) if f"eval/{name}" in line]


@pytest.mark.parametrize("case", CURVE, ids=str)
def test_one_curve(runs: dict[str, RunFolder], expected: Any, case: tuple[int, int, int]) -> None:
    run = runs[str(case)]
    np.testing.assert_allclose(curve(run), expected[0], rtol=1e-6)
    np.testing.assert_allclose(evaluations(run, "loss"), expected[1], rtol=1e-6)


def test_bf16_is_near_it(runs: dict[str, RunFolder], expected: Any) -> None:
    losses = [loss for loss, _ in curve(runs["bf16"])]
    np.testing.assert_allclose(losses, [loss for loss, _ in expected[0]], rtol=2e-2)


def test_answers_are_learned_and_the_export_gives_them(runs: dict[str, RunFolder], data: Data) -> None:
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    run = runs["learned"]
    scores = evaluations(run, "exact_match")
    assert scores[0] == 0.0
    assert scores[-1] >= 0.9
    assert evaluations(run, "rougeL")[-1] >= 0.9
    assert outcome(run).state is State.done
    assert outcome(run).export_verified
    assert events(run, "answers")[0]["in_step"] is False

    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(run.export), AutoTokenizer.from_pretrained(run.export)
    assert model.generation_config.num_beams == 2
    lines = [json.loads(line) for line in run.predictions("validation").read_text().splitlines()]
    assert [(line["document"], line["reference"]) for line in lines] == [
        (number, target) for number, (_, target) in enumerate(rows(19, 2))
    ]
    inputs = tokenizer([source for source, _ in rows(19, 2)], return_tensors="pt", padding=True)
    with torch.no_grad():
        output = model.generate(**inputs, max_new_tokens=8)
    assert [line["prediction"] for line in lines] == tokenizer.batch_decode(output, skip_special_tokens=True)


def evaluate_alone(config: RunConfig) -> RunConfig:
    config.train.max_steps = 0
    return config


def test_predictions_and_scores_do_not_depend_on_the_ranks(
    runs: dict[str, RunFolder], data: Data, tmp_path: Path
) -> None:
    ways = {"greedy": {}, "sampled": {"do_sample": True, "temperature": 2.0}}
    found: dict[str, list[Any]] = {name: [] for name in ways}
    for world, stage in ((1, 0), (2, 3), (4, 2)):
        made = []
        for name, options in ways.items():
            config = evaluate_alone(settings(stage, 2, 0))
            config.task.generation = {**options, "max_new_tokens": 5}
            config.task.max_predictions = 11
            config.task.predict_with_generate = None
            made.append(write_run(tmp_path / f"{world}-{name}", config, runs["learned"].export, data[1]))
        launch_each(train_runs, world, [(made,)])
        for name, run in zip(ways, made, strict=True):
            lines = run.predictions("validation").read_text()
            scores = {key: evaluations(run, key)[-1] for key in ("rouge1", "rouge2", "rougeL", "exact_match")}
            found[name].append((lines, scores))
    for answers in found.values():
        assert answers[0] == answers[1] == answers[2]
        assert len(answers[0][0].splitlines()) == 11
    assert found["greedy"][0] != found["sampled"][0]


def test_a_stop_while_answering_is_acted_on_and_resumed_once(data: Data, tmp_path: Path) -> None:
    """STOP lies there from the beginning: the run stops in its first evaluation; then it goes on to its end."""
    config = settings(2, 2, STEPS)
    config.task.predict_with_generate = None
    run = write_run(tmp_path / "stopped", config, *data)
    run.stop.write_text("stopped\n")
    (first,) = launch_each(train_runs, 2, [([run],)])
    assert {ending.state for (ending,) in first} == {State.stopped}
    run.stop.unlink()
    (second,) = launch_each(train_runs, 2, [([run], 1)])
    assert {ending.state for (ending,) in second} == {State.done}
    steps = [line["step"] for line in metrics(run) if "train/loss" in line]
    assert steps == list(range(1, STEPS + 1))
    shutil.rmtree(run.path)
