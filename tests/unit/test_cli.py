"""The command line: quick help, unknown verbs, exit codes, the examples of every verb."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import cli
from launcher.problems import ConfigurationError, MusterError, NotFoundError, Problem, SchedulerError
from slurm.client import SlurmError

ROOT = Path(__file__).parent.parent.parent
HEAVY = ("hydra", "omegaconf", "rich", "torch", "yaml", "deepspeed", "transformers", "wandb", "antlr4")


def muster(*words: str, cwd: Path | None = None, imports: bool = False) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own; with `imports`, what it imported is on standard error."""
    flags = ["-X", "importtime"] if imports else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    argv = [sys.executable, *flags, "-m", "muster", *words]
    return subprocess.run(argv, capture_output=True, text=True, cwd=cwd, env=environment, timeout=60, check=False)


@pytest.mark.parametrize(
    "words", [["--help"], ["plan", "--help"], ["status", "--help"], ["status"], ["nonsense"]], ids=str
)
def test_nothing_heavy_is_imported(words: list[str], tmp_path: Path) -> None:
    done = muster(*words, cwd=tmp_path, imports=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert len(imported) > 20
    assert not {name for name in imported if name.split(".")[0] in HEAVY}


def test_first_screen_names_every_verb_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    screen = capsys.readouterr().out
    assert len(cli.VERBS) >= 12
    for verb in cli.VERBS:
        line = importlib.import_module(f"launcher.verbs.{verb}").HELP
        assert line
        assert "\n" not in line
        assert re.search(rf"^ .*\b{verb}\b +{re.escape(line)}$", screen, re.MULTILINE)
    assert max(map(len, screen.splitlines())) <= 80
    assert len(screen.splitlines()) <= 34
    assert len([line for line in screen.splitlines() if line.startswith("  muster ")]) == 3


@pytest.mark.parametrize("verb", [verb for verb in cli.VERBS if verb != "devcluster"])
def test_help_of_a_verb_has_examples_of_that_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    examples = [shlex.split(line, comments=True) for line in text.partition("examples:\n")[2].splitlines()]
    assert len(examples) >= 2
    assert all(example[:2] == ["muster", verb] for example in examples)
    assert cli.main(["help", verb]) == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--version"], 0, "muster "),
        ([], 2, "usage: muster VERB"),
        (["stauts"], 2, "nearest: status"),
        (["zzzz"], 2, "no verb 'zzzz'"),
        (["model=hf"], 2, "A verb comes first"),
        (["logs"], 2, "the following arguments are required: RUN"),
        (["status", "--jsno"], 2, "--jsno"),
        (["status", "nobody"], 4, "no run 'nobody'"),
        (["stop", "nobody"], 4, "no run 'nobody'"),
        (["sweep", "nobody"], 2, "'nobody' is no action; there are status"),
        (["run", "--help"], 0, "-m key="),
        (["plan", "--help"], 0, "-m key="),
    ],
    ids=str,
)
def test_exit_codes(
    words: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == code
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError([Problem("a.b", "1", "is not 2")]), 2),
        (SchedulerError("sbatch: error: Invalid partition"), 3),
        (SlurmError(["squeue"], "Unable to contact slurm controller"), 3),
        (NotFoundError("no run"), 4),
        (MusterError("is running"), 1),
        (RuntimeError("a mistake of ours"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_become_a_message_and_a_code(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.report(error) == code
    said = capsys.readouterr().err
    assert str(error) in said
    assert "Traceback" not in said


def test_tracebacks_only_with_debug(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{broken")
    quiet, loud = muster("logs", str(tmp_path)), muster("stop", str(tmp_path), "--debug")
    assert (quiet.returncode, loud.returncode) == (4, 1)
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    line = f"{shlex.quote(sys.executable)} -m muster --help | true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_plan_writes_nothing_and_says_all_problems_at_once(tmp_path: Path) -> None:
    done = muster(
        "plan", "train.global_batchsize=8", "data.train_file=missing.jsonl", "optim.learning_rate=much", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "train.global_batch_size" in done.stderr
    assert "optim.learning_rate" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_plan_shows_is_what_run_would_write(tmp_path: Path) -> None:
    words = ["plan", "model=tiny", "data.train_file=rows.jsonl", "train.max_steps=5", "cluster.ranks_per_node=1"]
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "response": "b"}\n' * 64)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    table, shown = muster(*words, cwd=tmp_path), muster(*words, "--show", "job.sh", cwd=tmp_path)
    as_json = muster(*words, "--json", cwd=tmp_path)
    assert (table.returncode, shown.returncode, as_json.returncode) == (0, 0, 0), table.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    plan = json.loads(as_json.stdout)
    assert plan["files"]["job.sh"] == len(shown.stdout.encode())
    for word in (" documents ≈ ", "zero_optimization.stage = 3", plan["plan"]["run_id"], *shown.stdout.splitlines()):
        assert word in table.stdout
    written = muster(*words, "--files", "sent", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    sizes = {
        path.relative_to(tmp_path / "sent").as_posix(): path.stat().st_size
        for path in (tmp_path / "sent").rglob("*")
        if path.is_file()
    }
    assert sizes == plan["files"]
    assert muster(*words, "--files", "sent", cwd=tmp_path).returncode == 2
    missing = muster(*words, "--show", "jobs.sh", cwd=tmp_path)
    assert missing.returncode == 4
    assert "nearest: job.sh" in missing.stderr


def test_doctor_shows_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "canary-0123456789")
    done = muster("doctor", "--json", "--run-root", str(tmp_path))
    assert done.returncode == 0, done.stderr
    findings = {finding["topic"]: finding for finding in json.loads(done.stdout)}
    assert "canary" not in done.stdout + done.stderr
    assert findings["W&B key"]["ok"]
    assert findings["python"]["found"].startswith("3.")
    assert set(findings) >= {"packages", "machine", "GPUs", "compiler", "Slurm", "free space", "PYTHONPATH"}
