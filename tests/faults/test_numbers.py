"""Row 17: weights that are NaN for one word, so that one rank's loss is, in the steps that have it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from tests.dist.small_models import write_model, write_tokenizer
from tests.faults.local_runs import SHORT, folder_of, muster, run_to_end, said, steps_of, why
from tests.slurm.live import lines, outcome

pytestmark = [pytest.mark.faults, pytest.mark.fault(17), pytest.mark.timeout(900)]

STEPS = 12
POISONED_ROW = 5
POISONED = "one + one = two"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of 32 rows, and a model whose embeddings are NaN for what only one of them has."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    root = tmp_path_factory.mktemp("numbers")
    model = write_model(root / "model", "llama")
    write_tokenizer(model)
    rows = [{"text": "a b c one two three " * (1 + number % 3)} for number in range(32)]
    rows[POISONED_ROW]["text"] = POISONED
    tokenizer = AutoTokenizer.from_pretrained(model)
    known = {token for row in rows if row["text"] != POISONED for token in tokenizer(row["text"])["input_ids"]}
    only = sorted(set(tokenizer(POISONED)["input_ids"]) - known)
    assert only
    weights = load_file(model / "model.safetensors")
    weights["model.embed_tokens.weight"][only] = math.nan
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    (root / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def words(root: Path, name: str) -> list[str]:
    return [
        *SHORT,
        f"name={name}",
        f"run_root={root}",
        "model=hf",
        f"model.model_name_or_path={root / 'model'}",
        f"data.train_file={root / 'train.jsonl'}",
        "data.max_length=64",
        "parallel=zero2",
        "train.precision=bf16",
        "train.global_batch_size=8",
        f"train.max_steps={STEPS}",
        "train.logging_steps=1",
        "checkpoint.save_steps=1",
        "checkpoint.export=never",
    ]


def left_out(folder: RunFolder) -> list[dict[str, Any]]:
    return [line for line in lines(folder.events) if line.get("about") == "non_finite"]


def test_steps_are_left_out_up_to_the_budget(root: Path, figures: dict[str, Any]) -> None:
    """Three passes over the data: three steps left out, by both ranks, and the run is done."""
    told = run_to_end(root, "run", *words(root, "within"))
    folder = folder_of(root, "within")
    assert folder is not None
    events = left_out(folder)
    assert len(events) == 3
    assert outcome(folder)["state"] == "done"
    assert steps_of(folder, 0) == sorted({*range(1, STEPS + 1)} - {event["step"] for event in events})
    for event in events:
        (kept,) = folder.attempt(0).suspect(event["step"], 0).parent.glob(f"step-{event['step']:08d}-*")
        content = json.loads(kept.read_text())
        assert content["rank"] == event["rank"]
        (bad,) = [batch for batch in content["micro_batches"] if batch["loss"] == "nan"]
        assert POISONED_ROW in bad["documents"]
        assert POISONED in bad["text"][0]
    assert "warning: the gradient is not finite" in told
    shown = run_to_end(root, "status", "within", f"--run-root={root}")
    assert "3 steps left out; the last: the gradient is not finite" in shown
    figures["steps_lost"] = len(events)


def test_beyond_the_budget_the_run_goes_back_and_on(root: Path, figures: dict[str, Any]) -> None:
    """The budget is one step: at the second, back to the last checkpoint; the third is the first of a new budget."""
    keys = ["health.non_finite=roll_back", "health.max_skipped_steps=1", "checkpoint.save_steps=2"]
    told = run_to_end(root, "run", *words(root, "back"), *keys)
    folder = folder_of(root, "back")
    assert folder is not None
    assert outcome(folder)["state"] == "done"
    (back,) = [line for line in lines(folder.events) if line.get("about") == "roll_back"]
    assert back["step"] - 3 < back["to"] < back["step"]
    assert f"Rolled back to the checkpoint of step {back['to']}, 1 of at most 2" in told
    assert [line["text"].rpartition(", ")[2] for line in left_out(folder)] == ["1 of at most 1"] * 2
    assert [line["step"] for line in lines(folder.metrics) if "health/roll_backs" in line] == [back["step"]]
    bad = {back["step"], *(event["step"] for event in left_out(folder))}
    assert steps_of(folder, 0) == sorted({*range(1, STEPS + 1)} - bad)
    assert "1 roll back; the last: the gradient is not finite" in run_to_end(
        root, "status", "back", f"--run-root={root}"
    )
    assert '"rolled_back": [' in json.dumps(why(root, folder))
    figures["steps_lost"] = back["step"] - back["to"]


def test_beyond_the_budget_the_run_ends_and_is_not_sent_again(root: Path, figures: dict[str, Any]) -> None:
    process = muster(root, "run", *words(root, "beyond"), "health.max_skipped_steps=1")
    assert process.wait(240) == 1, said(process)
    folder = folder_of(root, "beyond")
    assert folder is not None
    found = outcome(folder)
    assert (found["state"], found["failure"]["cause"]) == ("failed", "nan")
    assert "health.max_skipped_steps=1 were left out before" in found["reason"]
    assert folder.attempt(0).decision.read_text().strip() == "end"
    assert not folder.attempt(1).folder.exists()
    (first,) = left_out(folder)
    assert found["step"] > first["step"]
    assert folder.checkpoint(found["step"]).is_dir()
    diagnosis = json.dumps(why(root, folder))
    assert '"nan"' in diagnosis
    figures["steps_lost"] = 0
