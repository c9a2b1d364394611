"""`muster push`: what it refuses before it starts anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.record import Script, encode_plan
from conf.schema import RunConfig
from launcher.problems import MusterError
from launcher.send.push import MOST_FOLLOWED, push
from tests.dist.runs import write_plan


def write_run(path: Path, script: Script | None = None) -> RunFolder:
    folder, plan = write_plan(path, RunConfig())
    folder.run_json.write_text(encode_plan(replace(plan, script=script)))
    folder.path.chmod(0o700)
    folder.muster_zip.parent.mkdir(mode=0o700)
    folder.muster_zip.write_bytes(b"")
    return folder


def test_a_program_of_one_s_own_has_a_history_of_its_own(tmp_path: Path) -> None:
    """A replay would write over what it has told W&B itself."""
    folder = write_run(tmp_path / "own", Script("train.py", ".", []))
    with pytest.raises(MusterError, match=r"a program of your own.*wandb sync"):
        push([folder], follow=False)


def test_a_machine_follows_only_so_many(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(number)) for number in range(MOST_FOLLOWED + 1)]
    with pytest.raises(MusterError, match="9 runs: at most 8"):
        push(folders, follow=True)
