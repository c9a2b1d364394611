"""A sweep on a real Slurm, as a person has it: sent in arrays, killed half-way and carried on, retried, extended."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from launcher.runs.standing import training_attempts
from tests.slurm.live import decision, lines, outcome, wait_for, wait_for_end, wait_for_step
from tests.slurm.person import Person

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(580)]

NASTY_ROOT = 'it\'s $(touch gone), "runs"'
TEMPLATES = ("Q, $(touch gone): {prompt}", 'it\'s \\"{prompt}\\", `touch gone`')
TINY = [
    "experiment=demo",
    "cluster=devcluster",
    "cluster.ranks_per_node=1",
    "tracking=none",
    "parallel=zero2",
    "data.max_length=64",
    "train.eval_samples=0",
    "checkpoint.export=never",
]
KILLER = """#!/bin/bash
real=$(PATH=/usr/local/bin:/usr/bin:/bin command -v sbatch)
case "$*" in
  *--array=*) "$real" "$@" >/dev/null; kill -9 $PPID ;;
  *) exec "$real" "$@" ;;
esac
"""


@pytest.fixture(scope="module")
def work(person: Person) -> Path:
    folder = person.home / "sweep"
    folder.mkdir()
    shutil.chown(folder, person.uid, person.gid)
    return folder


def sweep_json(person: Person, work: Path, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(person.muster("sweep", "status", *words, "--json", cwd=work))
    return found


def states(person: Person, work: Path, *words: str) -> list[str]:
    return [point["state"] for point in sweep_json(person, work, *words)["points"]]


def jobs_of(folder: RunFolder, purpose: str = "train") -> list[str]:
    sent = (line for line in lines(folder.submissions) if line["event"] == "sent")
    return [line["job_id"] for line in sent if line["purpose"] == purpose]


def test_six_points_survive_a_killed_shell_a_failure_and_a_longer_grid(person: Person, work: Path) -> None:
    """Arrays of three at most; every point trains exactly once, whatever breaks off, whatever its values look like."""
    root = work / NASTY_ROOT
    quoted = NASTY_ROOT.replace('"', '\\"')
    breaks = "[[ ! -e $HOME/break || $MUSTER_RUN != *0.002*prompt_template-Q* ]] || return 1"
    words = [
        *TINY, f'run_root="{quoted}"', "cluster.nodes=2", "train.max_steps=2", "sweep.max_array_size=3",
        "sweep.name=six points", f"cluster.setup=['{breaks}']", "-m", "optim.learning_rate=1e-3,2e-3,3e-3",
        "data.prompt_template=" + ",".join(f'"{text}"' for text in TEMPLATES),
    ]  # fmt: skip
    where = f"--run-root={root}"
    planned = person.muster("plan", *words, cwd=work)
    assert "6 points in 2 arrays" in planned
    assert list(work.iterdir()) == []

    (person.home / "break").touch(mode=0o644)
    shim = person.home / "shim"
    shim.mkdir()
    (shim / "sbatch").write_text(KILLER)
    (shim / "sbatch").chmod(0o755)
    muster = [str(person.python), "-m", "muster"]
    path = f"{shim}:{person.environment['PATH']}"
    killed = person.run(*muster, "submit", *words, cwd=work, check=False, PATH=path)
    assert killed.returncode == -9
    (folder,) = (root / "sweeps").iterdir()
    assert [line["event"] for line in lines(folder / "ledger.jsonl")][-1] == "sending"

    said = json.loads(person.muster("submit", *words, "--json", cwd=work))
    assert (said["sweep"], said["goes_on"]) == (folder.name, True)
    assert (said["before"]["live"], said["sent"], said["sbatch_calls"]) == (3, 3, 1)
    again = person.muster("submit", *words, cwd=work)
    assert "goes on: 6 running or waiting; nothing is left to send" in again
    runs = [RunFolder(Path(point["folder"])) for point in said["points"]]
    arrays = {job.partition("_")[0] for run in runs for job in jobs_of(run)}
    assert (len(arrays), [len(jobs_of(run)) for run in runs]) == (2, [1] * 6)
    assert sum(len(jobs_of(run, "prepare")) for run in runs) == 2  # one for each template

    for number, run in enumerate(runs):
        if number == 2:
            wait_for(lambda: states(person, work, folder.name, where)[2] == "failed", runs[2], "a failure", True)
        else:
            wait_for_end(run, "done")
    assert states(person, work, folder.name, where) == ["done"] * 2 + ["failed"] + ["done"] * 3

    (person.home / "break").unlink()
    retried = person.muster("sweep", "retry", folder.name, where, cwd=work)
    assert "1 point sent now" in retried
    values = ["cluster.nodes=1", "optim.learning_rate=1e-3,4e-3", f'data.prompt_template="{TEMPLATES[0]}"']
    extended = person.muster("sweep", "extend", folder.name, where, "-m", *values, cwd=work)
    assert "2 points sent now" in extended
    points = sweep_json(person, work, folder.name, where)["points"]
    assert len(points) == 8
    more = [RunFolder(Path(point["folder"])) for point in points[6:]]
    for run in (runs[2], *more):
        wait_for(lambda run=run: outcome(run).get("state") == "done", run, "the end", True)
    assert jobs_of(more[0])[0].partition("_")[0] == jobs_of(more[1])[0].partition("_")[0]
    started = [[line for line in lines(run.events) if line["event"] == "attempt_started"] for run in (*runs, *more)]
    nodes = [len(set(events[-1]["hosts"])) for events in started]
    assert nodes == [2] * 6 + [1] * 2
    assert [len(training_attempts(run)) for run in (*runs, *more)] == [1, 1, 2, 1, 1, 1, 1, 1]
    steps = [[line["step"] for line in lines(run.metrics) if "train/loss" in line] for run in (*runs, *more)]
    assert steps == [[1, 2]] * 8
    snapshots = {run.muster_zip.stat().st_ino for run in runs}
    assert len(snapshots) == 1
    assert not list(person.home.rglob("gone"))

    best = json.loads(person.muster("sweep", "best", folder.name, where, "--json", cwd=work))
    losses = {point["run"]: point["value"] for point in best["points"]}
    assert losses == {run.path.name: outcome(run)["metrics"][best["metric"]] for run in (*runs, *more)}
    assert list(losses.values()) == sorted(losses.values())


def test_an_element_of_an_array_is_a_run_like_any_other(person: Person, work: Path) -> None:
    """Found by its job's id, stopped alone, requeued alone at its time limit; the rest is cancelled as a sweep."""
    words = [*TINY, "cluster.nodes=1", "train.max_steps=5000", "train.eval_strategy=no", "sweep.name=long"]
    said = json.loads(person.muster("submit", *words, "-m", "train.seed=1,2", "--json", cwd=work))
    first, second = (RunFolder(Path(point["folder"])) for point in said["points"])
    wait_for_step(first, 2, attempt=1)  # the attempt before has prepared the data of both
    wait_for_step(second, 2)
    job, other = jobs_of(first)[0], jobs_of(second)[0]
    assert (job.partition("_")[2], other.partition("_")[2]) == ("0", "1")
    (status,) = json.loads(person.muster("status", job, "--json", cwd=work))
    assert (status["id"], status["state"], status["job"]) == (first.path.name, "running", f"slurm:{job}")

    person.muster("stop", job, cwd=work)
    wait_for_end(first, "stopped")
    assert outcome(second) == {}
    person.run("scancel", "--batch", "--signal=USR1", other)
    wait_for(lambda: decision(second, 0), second, "a decision")
    assert (decision(second, 0), outcome(second)["state"]) == ("requeue", "time_limit")
    waiting = shlex.split(f"squeue -h --array -o %i:%T -j {other}")
    wait_for(lambda: person.run(*waiting).stdout.strip() == f"{other}:PENDING", second, "its return to the queue")
    assert "1 queued" in person.muster("sweep", "status", "long", cwd=work)

    assert "is cancelled" in person.muster("sweep", "cancel", "long", cwd=work)
    assert states(person, work, "long") == ["stopped", "cancelled"]
    assert "nothing of long" in person.muster("sweep", "cancel", "long", cwd=work)
