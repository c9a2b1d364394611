"""A rank's first moments: a SIGTERM for the whole job step, however early, is not its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RANK = """
import os, signal, sys
from pathlib import Path
from train.node.process import begin_rank
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # as the agent starts its ranks
os.kill(os.getpid(), signal.SIGTERM)
folder = Path(sys.argv[1])
begin_rank(folder / "log", os.getppid(), folder / "stacks")
os.kill(os.getpid(), signal.SIGTERM)
print("alive", signal.pthread_sigmask(signal.SIG_BLOCK, ()), flush=True)
"""


def test_sigterm_before_and_after_the_rank_has_begun(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", RANK, str(tmp_path)], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 0
    assert (tmp_path / "log").read_text().split("\n")[0] == "alive set()"
