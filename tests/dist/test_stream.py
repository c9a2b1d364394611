"""Training on a stream: one loss curve on 1, 2 and 4 ranks, and not a bit changed by a stop in the middle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.outcome import State
from conf.record import read_plan
from conf.schema import ModelInit
from tests.dist.harness import launch_each
from tests.dist.runs import configuration, events, metrics, outcome, train_runs, write_run

pytestmark = pytest.mark.dist

STEPS = 6
CUT = 3
SHAPE = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attention_dropout": 0.0,
}


def write_shards(folder: Path) -> Path:
    """Three files, one with a broken row; fewer rows than the run takes documents."""
    folder.mkdir()
    for part in range(3):
        rows = [json.dumps({"text": f"{part} {number} " + "ab " * (number % 9)}) for number in range(12)]
        if part == 1:
            rows[5] = '{"text": 5}'
        (folder / f"{part}.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def prepared_run(folder: Path, shards: Path, packing: str, micro: int) -> RunFolder:
    """A run folder whose data step went the real way."""
    from train.data.prepare import prepare

    config = configuration(3, micro, packing, STEPS)
    config.model.init, config.model.shape = ModelInit.random, dict(SHAPE)
    config.model.tokenizer_name_or_path, config.model.tokenizer_vocab_size = "train", 280
    config.data.streaming, config.data.train_file = True, str(shards)
    config.data.shuffle_buffer, config.data.max_bad_rows = 7, 3
    config.train.logging_steps = 1
    config.checkpoint.save_steps, config.checkpoint.save_total_limit = 1, STEPS
    run = write_run(folder, config, shards, {})
    run.model.unlink()
    run.data_json.unlink()
    prepare(read_plan(run.run_json), run, lambda *_: None)
    return run


def losses(run: RunFolder, attempt: int = 0) -> dict[int, tuple[float, float]]:
    lines = [line for line in metrics(run) if "train/loss" in line and line["attempt"] == attempt]
    return {line["step"]: (line["train/loss"], line["train/grad_norm"]) for line in lines}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, RunFolder]:
    """The same training on 1, 2 and 4 ranks."""
    folder = tmp_path_factory.mktemp("runs")
    shards = write_shards(folder / "shards")
    layouts = {1: ("none", 4), 2: ("exact", 2), 4: ("exact", 1)}
    made = {world: prepared_run(folder / f"ranks{world}", shards, *layout) for world, layout in layouts.items()}
    for world, run in made.items():
        launch_each(train_runs, world, [([run],)])
    return made


def test_the_curve_is_one_on_any_ranks(runs: dict[int, RunFolder]) -> None:
    expected = losses(runs[1])
    assert list(expected) == list(range(1, STEPS + 1))
    for world in (2, 4):
        found = losses(runs[world])
        assert list(found) == list(expected)
        for step, values in found.items():
            assert values == pytest.approx(expected[step], rel=1e-6)
        assert outcome(runs[world]).state is State.done


def test_a_broken_row_is_a_warning_with_its_place(runs: dict[int, RunFolder]) -> None:
    for run in runs.values():
        texts = [event["text"] for event in events(run, "warning") if "broken" in event.get("text", "")]
        assert len(texts) in (1, 2)
        assert all("1.jsonl:6: column 'text' is int, text is expected" in text for text in texts)


def test_going_on_takes_the_next_documents_and_changes_no_bit(runs: dict[int, RunFolder], tmp_path: Path) -> None:
    import torch

    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(runs[2].path, copy.path, symlinks=True)
    for step in range(CUT + 1, STEPS + 1):
        shutil.rmtree(copy.checkpoint(step))
    copy.outcome.unlink()
    launch_each(train_runs, 2, [([copy], 1)])
    whole = losses(runs[2])
    assert losses(copy, 1) == {step: whole[step] for step in range(CUT + 1, STEPS + 1)}
    files = sorted(copy.checkpoint(STEPS).rglob("*model_states.pt"))
    assert len(files) == 2
    for file in files:
        ours, theirs = (
            torch.load(path, weights_only=False)["module"]
            for path in (file, runs[2].path / file.relative_to(copy.path))
        )
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_another_number_of_ranks_takes_the_next_documents(runs: dict[int, RunFolder], tmp_path: Path) -> None:
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(runs[2].path, copy.path, symlinks=True)
    for step in range(CUT + 1, STEPS + 1):
        shutil.rmtree(copy.checkpoint(step))
    copy.outcome.unlink()
    launch_each(train_runs, 3, [([copy], 1)])
    whole, found = losses(runs[2]), losses(copy, 1)
    assert list(found) == list(range(CUT + 1, STEPS + 1))
    for step, values in found.items():
        assert values == pytest.approx(whole[step], rel=1e-6)
