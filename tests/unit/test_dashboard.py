"""`muster dashboard`: what it is about, the panels it has, and W&B's own format of it, made without network or key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conf.board import Board
from conf.layout import RunFolder
from conf.record import read_plan
from conf.schema import RunConfig
from launcher.problems import NotFoundError
from launcher.send.dashboard import board_of_runs, board_of_sweep, show_dashboard
from launcher.sweep.folder import SweepFolder
from launcher.sweep.members import find_runs
from launcher.sweep.record import Sweep, SweptPoint, encode_sweep
from tests.dist.runs import write_plan
from train.tracking.sections import SECTIONS, sections_of

ROOT = Path(__file__).resolve().parents[2]
LINE = {"step": 4, "train/loss": 1.0, "train/grad_norm": 1.0, "eval/loss": 2.0, "eval/accuracy": 0.5, "eval/runtime": 1}
MEASURED = {"nodes/count": 2, "nodes/cpu_percent/max": 90.0, "worst": {"memory_percent": "b"}}


def write_run(path: Path) -> RunFolder:
    folder, _ = write_plan(path, RunConfig())
    folder.metrics.write_text(json.dumps(LINE) + "\n")
    folder.system.write_text(json.dumps(MEASURED) + "\n")
    return folder


def write_sweep(root: Path) -> SweepFolder:
    values = [("1e-5", "zero2", 0.5), ("1e-4", "zero3", 0.7)]
    points = []
    for number, (rate, stage, accuracy) in enumerate(values):
        run = write_run(root / f"demo-{number:08d}")
        run.metrics.write_text(json.dumps({**LINE, "eval/accuracy": accuracy}) + "\n")
        overrides = [f"optim.learning_rate={rate}", f"parallel={stage}"]
        points.append(SweptPoint(overrides, run.path.name, str(run.path), str(number)))
    folder = SweepFolder(root / ".sweeps" / "demo-sweep")
    folder.path.mkdir(parents=True)
    folder.sweep_json.write_bytes(encode_sweep(Sweep("demo-sweep", "submit", [], "/", points)))
    return folder


def titles(board: Board) -> dict[str, list[str]]:
    return {section.title: [chart.title for chart in section.charts] for section in sections_of(board)}


def test_a_board_of_a_run_has_what_the_run_has_logged(tmp_path: Path) -> None:
    run = write_run(tmp_path / "demo-1a2b3c4d")
    board = board_of_runs([run], named=True)
    assert (board.runs, board.group, board.parameters) == ([read_plan(run.run_json).wandb_id], None, [])
    assert board.title == "demo-1a2b3c4d-00000000"
    assert titles(board) == {
        "Loss and evaluation": ["Training loss", "Evaluation loss", "accuracy"],
        "Stability": ["Gradient norm"],
        "Resilience": ["Attempt", "Goodput", "Steps made twice", "Seconds in the queue"],
        "Nodes": ["Processors in use, %", "Nodes that were heard"],
    }
    assert board_of_runs([write_run(tmp_path / "other")], named=False).runs == []


def test_what_a_long_run_has_logged_once_or_seldom_has_its_chart(tmp_path: Path) -> None:
    run = write_run(tmp_path / "demo-1a2b3c4d")
    once = {"step": 1, "plan/memory_measured_gib": 1.0, "plan/memory_predicted_gib": 1.0}
    lines = [once, *({"step": step, "train/loss": 1.0, "mem/host_peak_gib": 1.0} for step in range(1, 4001))]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    events = [
        {"event": "evaluation", "split": "validation", "step": 50, "loss": 1.0, "f1": 0.5},
        {"event": "evaluation", "split": "test", "step": 50, "rouge1": 0.5},
    ]
    run.events.write_text("".join(json.dumps(event) + "\n" for event in events))
    board = board_of_runs([run], named=True)
    assert set(once) - {"step"} < set(board.metrics)
    assert titles(board)["Loss and evaluation"] == ["Training loss", "Evaluation loss", "f1", "rouge1"]


def test_a_board_of_a_sweep_has_its_group_its_parameters_and_its_metric(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path)
    runs = find_runs([str(folder.path)], str(tmp_path))
    assert [run.path.name for run in runs] == ["demo-00000000", "demo-00000001"]
    board = board_of_sweep(folder, runs)
    assert (board.group, board.metric, board.greater) == ("demo-sweep", "eval/loss", False)
    assert board.parameters == ["optim.learning_rate", "parallel.zero_stage"]
    assert board.kept == str(folder.path / "dashboard.json")
    with pytest.raises(NotFoundError, match="no run"):
        show_dashboard([], str(tmp_path / "nothing"), dry_run=True)


def preview(board: Board, home: Path) -> dict[str, Any]:
    """What `--dry-run` prints, by a process without a key and with a server that is not there."""
    pytest.importorskip("wandb_workspaces")
    environment = {"HOME": str(home), "WANDB_BASE_URL": "http://127.0.0.1:9", "PATH": "/usr/bin:/bin"}
    argv = [sys.executable, "-m", "train", "dashboard", "RUN", "--dry-run"]
    content = msgspec.json.encode(board)
    done = subprocess.run(argv, input=content, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_dry_run_prints_w_and_b_s_own_format_without_network_or_key(tmp_path: Path) -> None:
    names = [name for section in SECTIONS for chart in section.charts for name in chart.names]
    keys = ["optim.learning_rate", "train.seed"]
    board = Board(
        "demo-sweep", "muster", "team", group="demo-sweep", metrics=names, parameters=keys, metric="eval/loss"
    )
    found = preview(board, tmp_path)
    view = found["workspace"]["spec"]["section"]
    sections = {section["name"]: section["panels"] for section in view["panelBankConfig"]["sections"]}
    assert list(sections) == ["Sweep", *(section.title for section in SECTIONS)]
    kinds = [panel["viewType"] for panel in sections["Sweep"]]
    assert kinds == ["Parallel Coordinates Plot", "Parameter Importance", "Scatter Plot", "Scatter Plot"]
    columns = [column["accessor"] for column in sections["Sweep"][0]["config"]["columns"]]
    assert columns == ["config:optim.value.learning_rate", "config:train.value.seed", "summary:eval/loss"]
    lines = [panel["config"] for panel in sections["Loss and evaluation"]]
    assert {config["xAxis"] for config in lines} == {"train/global_step"}
    (filter_,) = view["runSets"][0]["filters"]["filters"]
    assert (filter_["key"], filter_["value"]) == ({"section": "run", "name": "group"}, "demo-sweep")
    report = found["report"]["spec"]["blocks"]
    grids = [block for block in report if block["type"] == "panel-grid"]
    assert len(grids) == len(sections)
    places = [tuple(panel["layout"].values()) for panel in sections["Nodes"]]
    assert len(set(places)) == len(places) > 3
