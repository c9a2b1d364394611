"""Muster's own packages are used whatever lies in the working folder or on PYTHONPATH."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

HOSTILE = {
    "train.py": "raise SystemExit('hidden by train.py')",
    "launcher.py": "raise SystemExit('hidden by launcher.py')",
    "slurm/__init__.py": "raise SystemExit('hidden by slurm')",
    "conf/__init__.py": "raise SystemExit('hidden by conf')",
    "conf/config.yaml": "optim: {learning_rate: 77}",
    "conf/model/tiny.yaml": "init: pretrained",
}


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder full of a person's files with Muster's names."""
    for name, content in HOSTILE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


WAYS = {
    "script": (["{root}/muster.py"], "", False),
    "module": (["-m", "muster"], "{root}", True),
    "command, PYTHONPATH": (["{bin}/muster"], "{hostile}:{root}", True),
    "module, PYTHONPATH": (["-m", "muster"], "{hostile}:{root}", True),
}
"""How it is started, PYTHONPATH, and whether the folder stands on the path before Muster."""


@pytest.mark.parametrize("way", WAYS)
def test_hostile_names_hide_nothing(way: str, hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    start, path, warned = WAYS[way]
    places = {"root": ROOT, "hostile": hostile, "bin": tmp_path_factory.mktemp("bin")}
    (places["bin"] / "muster").write_text("import sys\nfrom muster import main\nsys.exit(main())\n")
    variables = {**os.environ, "HOME": str(hostile), "PYTHONPATH": path.format(**places)}
    words = [*(word.format(**places) for word in start), "plan", "--cfg", "job", "-p", "optim", "model=tiny"]
    done = subprocess.run(
        [sys.executable, *words], cwd=hostile, env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "learning_rate: 1.0e-05" in done.stdout
    line = f"muster: {hostile} has conf, launcher, slurm, train of its own; Muster uses its own packages\n"
    assert done.stderr == (line if warned else "")
    assert sorted(path.name for path in hostile.iterdir()) == ["conf", "launcher.py", "slurm", "train.py"]


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys, muster; sys.argv = ['muster', '--help']; muster.main(); "
        "print(sorted({'hydra', 'omegaconf', 'rich', 'yaml', 'msgspec', 'torch'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.strip() == "[]"
    assert "muster run" in done.stdout
