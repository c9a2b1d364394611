"""Runs on this machine by the command line, as a test breaks and resumes them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from conf.layout import RunFolder
from tests.slurm.live import lines

LIMIT_S = 540.0
SHORT = [
    "cluster.ranks_per_node=2",
    "tracking=none",
    "train.eval_strategy=no",
    "train.eval_on_start=false",
    "train.eval_samples=0",
]


def muster(root: Path, verb: str, *words: str, start: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a verb with its output in a file beside the runs; `start` is put before the command."""
    root.mkdir(parents=True, exist_ok=True)
    said = (root / f"said-{time.monotonic_ns()}.txt").open("w+")
    argv = [*start, sys.executable, "-m", "muster", verb, *words]
    process = subprocess.Popen(
        argv,
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": str(root / "none")},
    )
    process.said = said  # type: ignore[attr-defined]
    return process


@contextlib.contextmanager
def started(root: Path, *words: str, name: str, start: tuple[str, ...] = ()) -> Iterator[tuple[Any, RunFolder]]:
    """`muster run` under a name, with the folder that it makes; ended with the block."""
    process = muster(root, "run", *words, f"name={name}", f"run_root={root}", start=start)
    try:
        wait_for(lambda: folder_of(root, name) is not None, process, "a run folder")
        folder = folder_of(root, name)
        assert folder is not None
        yield process, folder
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def run_to_end(root: Path, verb: str, *words: str) -> str:
    """What a verb said, which has to end well."""
    process = muster(root, verb, *words)
    status = process.wait(LIMIT_S)
    assert status == 0, said(process)
    return said(process)


def undisturbed(root: Path, *words: str) -> RunFolder:
    """A run that nothing disturbs, at its end."""
    run_to_end(root, "run", *words, "name=whole", f"run_root={root}")
    folder = folder_of(root, "whole")
    assert folder is not None
    return folder


def said(process: Any) -> str:
    process.said.seek(0)
    return str(process.said.read())


def folder_of(root: Path, name: str) -> RunFolder | None:
    found = [path for path in root.glob(f"{name}-????????") if (path / "run.json").exists()]
    return RunFolder(found[0]) if found else None


def wait_for(seen: Callable[[], object], process: Any, what: str) -> None:
    """Come back as soon as `seen` holds; fail with what the command said once it has ended without it."""
    deadline = time.monotonic() + LIMIT_S
    while not seen():
        over = process.poll() is not None and not seen()
        assert not over, f"{what} did not happen: {said(process)}"
        assert time.monotonic() < deadline, f"{what} did not happen in {LIMIT_S} s: {said(process)}"
        time.sleep(0.05)


def steps_of(folder: RunFolder, attempt: int) -> list[int]:
    """The steps that an attempt has made."""
    return [line["step"] for line in lines(folder.metrics) if line["attempt"] == attempt and "train/loss" in line]


def why(root: Path, folder: RunFolder, *words: str) -> dict[str, Any]:
    """`muster why RUN --json`."""
    argv = [sys.executable, "-m", "muster", "why", str(folder.path), "--json", *words]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def weights(folder: RunFolder) -> dict[str, bytes]:
    """The exported weights, every file bit for bit."""
    files = sorted(folder.export.glob("*.safetensors"))
    assert files, f"no export in {folder.path}"
    return {path.name: path.read_bytes() for path in files}
