"""What others could have written is not started, and the code has no way to run a text."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conf.layout import RunFolder
from launcher.problems import MusterError
from launcher.send import local, push, serve, submit
from tests.dist.runs import write_plan
from tests.unit.test_checks import BASE, config_of

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for name in ("conf", "launcher", "slurm", "train") for path in sorted((ROOT / name).rglob("*.py"))]
TEXT_RUNNERS = {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "pickle.load", "pickle.loads"}
UNPICKLERS = {"train/checkpoint/engine_files.py", "train/checkpoint/random_state.py"}

STARTS: dict[str, Callable[[RunFolder], object]] = {
    "run": lambda run: local.run_local(run, ["bash", str(run.job_sh)], None),
    "start": local.start_script,
    "submit": lambda run: submit.send(run, write_plan(run.path / "other", config_of(BASE))[1]),
    "push": lambda run: push.push([run], follow=False),
    "serve": lambda run: serve.find_model(str(run.path), None),
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder, _ = write_plan(tmp_path / "run", config_of(BASE))
    folder.job_sh.write_text(f"touch {tmp_path}/started\n")
    return folder


@pytest.mark.parametrize("start", STARTS)
def test_a_folder_that_everyone_may_write_starts_nothing(start: str, run: RunFolder, tmp_path: Path) -> None:
    run.path.chmod(0o777)
    with pytest.raises(MusterError, match="can be written by everyone"):
        STARTS[start](run)
    assert not (tmp_path / "started").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("start", STARTS)
def test_a_folder_of_somebody_else_starts_nothing(start: str, run: RunFolder, tmp_path: Path) -> None:
    os.chown(run.path, 12345, 12345)
    with pytest.raises(MusterError, match="belongs to user 12345"):
        STARTS[start](run)
    assert not (tmp_path / "started").exists()


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file, by the dotted name of what is called."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield ast.unparse(node.func), node


def test_nothing_runs_a_text() -> None:
    assert len(SOURCES) > 200
    for path in SOURCES:
        for name, call in calls(path):
            assert name not in TEXT_RUNNERS, f"{path}:{call.lineno} {name}"
            shell = [word.value for word in call.keywords if word.arg == "shell"]
            assert not shell, f"{path}:{call.lineno} shell="


def test_only_two_files_unpickle() -> None:
    found = {str(path.relative_to(ROOT)) for path in SOURCES for name, _ in calls(path) if name == "torch.load"}
    assert found == UNPICKLERS
