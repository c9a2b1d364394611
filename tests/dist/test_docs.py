"""What the pages say about runs is done: their commands that read or end a run, on a real one and on a real sweep."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.test_docs import ALL, make_project

pytestmark = pytest.mark.dist

READING = ("status", "logs", "why", "stop", "cancel", "export", "nodes", "doctor", "data")
READING_SWEEPS = ("best", "status", "report", "retry", "resume", "cancel", "export")
OF_OTHERS = re.compile(
    r"(?<![\w-])(1234|4711|gsm8k|my-sweep|model|--step|--site|--bench|--build-ops|eval/(?!loss)\w+)(?!\w)|=mysite|/opt/"
)
"""Words that mean a run, file or site which is not there; such commands are parsed elsewhere."""


@dataclass(frozen=True)
class Here:
    """A person's folder with a run `demo` and a sweep `trial`, both done."""

    folder: Path
    environment: dict[str, str]

    def muster(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command line there."""
        return subprocess.run(
            [sys.executable, "-m", "muster", *words],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Here:
    """The run and the sweep, made as the pages make them, only shorter."""
    place = tmp_path_factory.mktemp("docs")
    environment = {**os.environ, "HOME": str(place / "home"), "WANDB_MODE": "offline"}
    environment.pop("XDG_CONFIG_HOME", None)
    made = Here(make_project(place), environment)
    short = ("experiment=demo", "tracking=none", "train.max_steps=2", "train.eval_steps=2")
    for words in (short, (*short, "name=trial", "-m", "optim.learning_rate=1e-3,3e-3")):
        done = made.muster("run", *words)
        assert done.returncode == 0, done.stdout + done.stderr
    return made


def commands() -> list[str]:
    """Commands that read a run, with `demo` and `trial` for what the pages call RUN and SWEEP."""
    found = set()
    for command in ALL:
        program, *words = shlex.split(command.line, comments=True)
        if program != "muster" or command.needs or OF_OTHERS.search(command.line.removeprefix("muster")):
            continue
        if words[0] in READING:
            found.add(shlex.join(["demo" if word in ("RUN", "SWEEP") else word for word in words]))
        elif words[0] == "sweep" and (len(words) == 1 or words[1] in READING_SWEEPS):
            found.add(shlex.join(["trial" if word in ("demo", "SWEEP") else word for word in words]))
    return sorted(found)


def test_there_are_commands_to_run() -> None:
    assert len(commands()) > 25


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_pages_does_what_it_says(command: str, here: Here) -> None:
    done = here.muster(*shlex.split(command))
    assert "Traceback" not in done.stderr
    # Nothing runs that could be stopped, nothing failed, no search is there to be resumed: each is said in words.
    if command.startswith(("stop", "cancel", "sweep resume")) or "--first-error" in command:
        assert done.stdout + done.stderr
    else:
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.strip()
