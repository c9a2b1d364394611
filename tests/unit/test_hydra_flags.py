"""Hydra's own flags through the real command; nothing is written beside the run folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.compose.hydra_main import Words, sort_words
from launcher.compose.points import points
from launcher.problems import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]


def muster(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an empty folder."""
    variables = {**os.environ, "HOME": str(folder), **environment}
    variables.pop("MUSTER_SITE", None)
    command = [sys.executable, str(ROOT / "muster.py"), *words]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False)


SHOWN = [
    (["plan", "--cfg", "job", "experiment=demo", "data.columns.prompt=q"], ["name: demo", "  columns:\n    prompt: q"]),
    (["plan", "--cfg", "job", "-p", "optim", "optim.learning_rate=0.5"], ["# @package optim\nlearning_rate: 0.5"]),
    (["plan", "--hydra-help"], ["Hydra (1.3", 'eval "$(muster -sc install=bash)"']),
    (["plan", "--info", "defaults", "parallel=zero2"], ["parallel/zero2"]),
    (["--shell-completion", "install=bash"], ["hydra_bash_completion muster"]),
]


@pytest.mark.parametrize(("words", "expected"), SHOWN, ids=[" ".join(words) for words, _ in SHOWN])
def test_a_flag_shows_and_writes_nothing(words: list[str], expected: list[str], tmp_path: Path) -> None:
    done = muster(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    for text in expected:
        assert text in done.stdout
    assert list(tmp_path.iterdir()) == []


COMPLETED = [
    ("muster plan optim.learning_", "optim.learning_rate="),
    ("muster run parallel=zero2_", "parallel=zero2_offload"),
    ("muster subm", "submit"),
    ("muster ", "run plan data submit"),
]


@pytest.mark.parametrize(("line", "expected"), COMPLETED, ids=[line for line, _ in COMPLETED])
def test_the_shell_completes_verbs_groups_and_keys(line: str, expected: str, tmp_path: Path) -> None:
    done = muster(tmp_path, "-sc", "query=bash", COMP_LINE=line)
    assert done.stdout.strip().startswith(expected)
    assert list(tmp_path.iterdir()) == []


REFUSED = [
    (["--experimental-rerun", "x.pickle"], "can run any code"),
    (["--config-name", "mine"], "use experiment=<yours> with --config-dir"),
    (["--config-path=/x"], "use --config-dir"),
    (["hydra/launcher=basic"], "belongs to Hydra"),
    (["hydra.run.dir=../x"], "belongs to Hydra"),
    (["--cfg", "job", "optim.learning_rat=1"], "nearest: optim.learning_rate"),
]


@pytest.mark.parametrize(("words", "expected"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_a_flag_is_refused_with_the_reason(words: list[str], expected: str, tmp_path: Path) -> None:
    done = muster(tmp_path, "plan", *words)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_words_are_sorted() -> None:
    words = ["a=1", "--config-dir", "x", "-m", "--cfg", "job", "-p", "optim", "b=2", "--cd-typo"]
    assert sort_words(words) == Words(["a=1", "b=2", "--cd-typo"], ["--cfg", "job", "-p", "optim"], True, "x")
    with pytest.raises(ConfigurationError, match="needs a folder"):
        sort_words(["--config-dir"])


def test_the_points_of_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = points(
        ["experiment=demo", "optim.learning_rate=1e-5,2e-5", "parallel=zero2,zero3", "model.shape.hidden_size=64"]
    )
    values = [(point.config.optim.learning_rate, point.config.parallel.zero_stage) for point in found]
    assert values == [(1e-5, 2), (1e-5, 3), (2e-5, 2), (2e-5, 3)]
    assert found[1].overrides == ("optim.learning_rate=1e-05", "parallel=zero3")
    assert {point.config.model.shape["hidden_size"] for point in found} == {64}
    assert list(tmp_path.iterdir()) == []


def test_wrong_values_in_a_sweep_are_all_found() -> None:
    with pytest.raises(ConfigurationError) as caught:
        points(["optim.learning_rate=1e-5,fast", "parallel=zero2,zero9", "train.sed=1,2"])
    assert len(caught.value.problems) == 3


def test_a_planned_sweep_writes_nothing_and_names_its_points_apart(tmp_path: Path) -> None:
    done = muster(tmp_path, "plan", "-m", "experiment=demo", "tracking=none", "train.seed=1,2", "--json")
    assert done.returncode == 0, done.stderr
    found = [one["plan"] for one in json.loads(done.stdout)]
    assert [plan["config"]["name"] for plan in found] == ["demo-seed-1", "demo-seed-2"]
    assert [plan["config"]["train"]["seed"] for plan in found] == [1, 2]
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_with_a_wrong_point_starts_none(tmp_path: Path) -> None:
    done = muster(tmp_path, "run", "-m", "experiment=demo", "tracking=none", "optim.learning_rate=0.001,-1")
    assert done.returncode == 2
    assert "[optim.learning_rate=-1] optim.learning_rate=-1 has to be above 0" in done.stderr
    assert "0.001" not in done.stderr
    assert list(tmp_path.iterdir()) == []
    twice = muster(tmp_path, "run", "-m", "experiment=demo", "tracking=none", "train.seed=1,1")
    assert (twice.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "two points that are one run" in twice.stderr
