"""A site of small scripts that stand in for Slurm's commands: what they were asked is in `calls`."""

from __future__ import annotations

from pathlib import Path

import pytest

SBATCH = """#!/bin/bash
printf '%s\\n' "$*" >>"$(dirname "$0")/calls"
case "$*" in
  *--test-only*)
    echo "sbatch: Job 9 to start at 2026-01-01T00:00:00 using 2 processors on nodes n1 in partition p" >&2 ;;
  *) echo $(($(wc -l <"$(dirname "$0")/calls") + 40)) ;;
esac
"""
SQUEUE = """#!/bin/bash
folder=$(dirname "$0")
cat "$folder/queue" 2>/dev/null
[[ "$*" == *--me* ]] || cat "$folder/queue-of-others" 2>/dev/null
true
"""
SCONTROL = """#!/bin/bash
echo "MaxArraySize            = 1001"
"""
NO_DATABASE = """#!/bin/bash
echo 'You are not running a supported accounting_storage plugin' >&2
exit 1
"""
SCANCEL = """#!/bin/bash
printf 'scancel %s\\n' "$*" >>"$(dirname "$0")/calls"
"""


def make_site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stand-ins, first on PATH."""
    site = folder / "bin"
    site.mkdir()
    scripts = {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL, "scontrol": SCONTROL}
    scripts |= {"sacct": NO_DATABASE, "sacctmgr": NO_DATABASE}
    for name, text in scripts.items():
        (site / name).write_text(text)
        (site / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{site}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return site


def calls(site: Path) -> list[str]:
    return (site / "calls").read_text().splitlines()


def put_in_queue(site: Path, job: str, state: str, script: Path, mine: bool = True) -> None:
    """A line of squeue, in the fields that the client asks for."""
    fields = [job, state, "Resources", "p", 1, "", "0:00", "1:00", "N/A", "", "", script, "demo"]
    with (site / ("queue" if mine else "queue-of-others")).open("a") as file:
        file.write("\x1f".join(map(str, fields)) + "\n")
