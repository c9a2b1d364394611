"""Kinds of data and of training that a person may ask for, each through the real command from files to an outcome."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from conf.outcome import State
from tests.conftest import REPOSITORY
from tests.dist.runs import events, metrics, outcome

pytestmark = pytest.mark.dist
STEPS = 3
ROWS = [{"prompt": f"say {number} again", "response": f"{number} and {number}"} for number in range(40)]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def write_parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


def write_files(folder: Path) -> None:
    """The same forty rows in every kind of file and in every shape."""

    def lines(rows: list[dict[str, Any]]) -> bytes:
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)

    write_parquet(folder / "rows.parquet")
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "response"])
        writer.writeheader()
        writer.writerows(ROWS)
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(lines(ROWS)))
    roles = (("user", "prompt"), ("assistant", "response"))
    talks = [{"messages": [{"role": role, "content": row[name]} for role, name in roles]} for row in ROWS]
    (folder / "talks.jsonl").write_bytes(lines(talks))
    alpaca = [{"instruction": "repeat", "input": row["prompt"], "output": row["response"]} for row in ROWS]
    (folder / "alpaca.json").write_text(json.dumps(alpaca))
    (folder / "text.jsonl").write_bytes(lines([{"text": " ".join(row.values())} for row in ROWS]))
    (folder / "chat.jinja").write_text(TEMPLATE)


ROADS = {
    "parquet, dense, held out": (2, "data.train_file=rows.parquet data.packing=dense data.validation_size=6"),
    "csv, padded, test file": (1, "data.train_file=rows.csv data.packing=none data.test_file=rows.jsonl.gz"),
    "gz, wsd, recomputed": (1, "data.train_file=rows.jsonl.gz schedule=wsd train.gradient_checkpointing=true"),
    "messages, answered": (
        1,
        (
            "data.train_file=talks.jsonl data.chat_template=chat.jinja data.validation_size=0.1 "
            "train.eval_samples=2 checkpoint.export=end"
        ),
    ),
    "alpaca, every epoch, deterministic": (
        2,
        (
            "data.train_file=alpaca.json data.validation_file=alpaca.json train.eval_strategy=epoch "
            "train.global_batch_size=40 train.deterministic=true"
        ),
    ),
    "text, padded and recomputed": (
        2,
        "data.train_file=text.jsonl data.packing=none train.gradient_checkpointing=true parallel=zero2",
    ),
}


@pytest.mark.parametrize(("ranks", "words"), ROADS.values(), ids=ROADS)
def test_road(tmp_path: Path, ranks: int, words: str) -> None:
    write_files(tmp_path)
    common = (
        f"name=road model=tiny tracking=none cluster.gpus_per_node=0 cluster.ranks_per_node={ranks} "
        f"train.max_steps={STEPS} train.global_batch_size=8 data.max_length=64 model.shape.num_hidden_layers=2 "
        "checkpoint.save_steps=0 checkpoint.export=never"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "muster", "run", *common.split(), *words.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [path] = tmp_path.glob("runs/road-*")
    run = RunFolder(path)
    assert (outcome(run).state, outcome(run).step) == (State.done, STEPS)
    lines = [line for line in metrics(run) if "train/loss" in line]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(0 < line["train/loss"] < 10 for line in lines)
    validated = "validation" in words
    assert bool(events(run, "evaluation")) is (validated or "test_file" in words)
    if "eval_samples" in words:
        assert outcome(run).export_verified
        assert len(run.samples.read_text().splitlines()) == 2
