"""Sources mixed by weight, cleaned and split by class, through the real command on one and on two ranks."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conf.data_report import read_data_report
from conf.layout import RunFolder
from conf.outcome import State
from tests.conftest import REPOSITORY
from tests.dist.runs import events, metrics, outcome

pytestmark = pytest.mark.dist

SUMS = [{"question": f"add {n} and {n % 7}", "answer": str(n + n % 7), "kind": "sum"} for n in range(40)]
WORDS = [
    {"prompt": f"spell {n}", "response": " ".join(str(n)), "kind": "spell" if n % 2 else "say"} for n in range(200, 230)
]
OPTIONS = (
    "model=tiny tracking=none cluster.gpus_per_node=0 train.precision=fp32 train.max_steps=4 "
    "train.global_batch_size=16 data.max_length=64 model.shape.num_hidden_layers=2 checkpoint.save_steps=0 "
    "checkpoint.export=never data.train_files.sums=sums.jsonl data.train_files.words=words.csv data.weights.sums=1 "
    "data.weights.words=3 data.columns.prompt=question data.columns.response=answer data.test_file=test.jsonl "
    "data.validation_size=9 data.split_by=stratified data.split_column=kind data.clean.deduplicate=exact "
    "data.clean.drop_leaks=true data.clean.drop_empty=true"
)


def write_files(folder: Path) -> None:
    """Two sources of different shape: two rows come twice, one is empty, one is in the test data too."""
    rows = [*SUMS, SUMS[0], SUMS[1], {"question": "nothing", "answer": "", "kind": "sum"}]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    test = [SUMS[3], {"question": "new", "answer": "n", "kind": "sum"}]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in test))
    with (folder / "words.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "response", "kind"])
        writer.writeheader()
        writer.writerows(WORDS)


def muster(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "muster", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_same_documents_whatever_the_ranks_and_the_report_beforehand(tmp_path: Path) -> None:
    write_files(tmp_path)
    looked = muster(tmp_path, "data", *OPTIONS.split(), "--json")
    assert looked.returncode == 0, looked.stderr
    before = json.loads(looked.stdout)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [".cache"]
    losses = []
    for ranks in (1, 2):
        ended = muster(tmp_path, "run", f"name=ranks{ranks}", f"cluster.ranks_per_node={ranks}", *OPTIONS.split())
        assert ended.returncode == 0, ended.stdout + ended.stderr
        [path] = tmp_path.glob(f"runs/ranks{ranks}-*")
        run = RunFolder(path)
        assert outcome(run).state is State.done
        report = read_data_report(run.data_report)
        assert json.loads(run.data_report.read_text()) == before
        assert "<svg" in run.figure("lengths").read_text()
        losses.append([line["train/loss"] for line in metrics(run) if "train/loss" in line])
        assert json.loads(run.data_json.read_text())["reused"] is (ranks == 2)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    train, validation = report.splits["train"], report.splits["validation"]
    assert (report.sources[0].empty, report.sources[0].documents, validation.documents) == (1, 42, 9)
    assert report.taken["duplicates"] + report.taken["leaks"] == 72 - 9 - train.documents
    assert (report.splits["test"].seen, validation.seen) == (0, 0)
    assert sum(train.epoch.values()) == train.documents
    assert train.epoch["words"] == round(0.75 * train.documents)
    warned = [event["text"] for event in events(run, "warning")]
    assert [text for text in warned if "source words" in text] == [] or train.epoch["words"] >= 2 * train.sources[
        "words"
    ]
    assert set(report.findings) <= set(warned)
    shown = muster(tmp_path, "data", "ranks2")
    assert shown.returncode == 0
    assert "Cleaned away" in shown.stdout
    assert f"of the {train.documents} documents of an epoch" in shown.stdout
