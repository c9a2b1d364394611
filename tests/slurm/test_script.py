"""A program of a person's own on two nodes of a real Slurm: sent from a checkout, stopped, requeued, swept."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from conf.layout import RunFolder
from tests.slurm.live import job_of, metrics, outcome, start_now, submit, wait_for, wait_for_end, wait_for_step
from tests.slurm.person import Person

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(580)]

GUEST = Path(__file__).parents[1] / "guests" / "plain.py"
WORDS = (
    "task=script",
    "train.entrypoint=plain.py",
    "cluster=devcluster",
    "cluster.nodes=2",
    "cluster.ranks_per_node=1",
)


@pytest.fixture
def project(person: Person) -> Path:
    folder = person.home / "guest"
    folder.mkdir()
    shutil.copy2(GUEST, folder)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["chown", "-R", f"{person.uid}:{person.gid}", str(folder)], check=True)
    return folder


def test_a_program_survives_its_job_and_is_swept(person: Person, project: Path) -> None:
    options = "train.options={steps: 120, nap: 0.1}"
    folder, run_id = submit(person, project, *WORDS, options, "name=fit")
    wait_for_step(folder, 6)
    job = job_of(folder)
    person.run("scontrol", "requeue", str(job))
    start_now(person, job, folder)
    wait_for_step(folder, 12, attempt=1)
    first = next(line["step"] for line in metrics(folder) if line["attempt"] == 1)
    last = max(line["step"] for line in metrics(folder) if line["attempt"] == 0)
    assert 6 <= first <= last + 1  # it saved every five steps, or at the end that Slurm announced
    person.muster("stop", run_id, cwd=project)
    wait_for_end(folder, "stopped")
    assert outcome(folder)["step"] == metrics(folder)[-1]["step"]

    person.muster("submit", *WORDS, "train.options.steps=3", "name=grid", "-m", "train.options.lr=0.1,0.3", cwd=project)
    found = json.loads(person.muster("sweep", "status", "grid", "--json", cwd=project))
    runs = [RunFolder(Path(point["folder"])) for point in found["points"]]
    assert len(runs) == 2
    for run in runs:
        wait_for(lambda run=run: outcome(run).get("state") == "done", run, "the end")  # type: ignore[misc]
    best = json.loads(person.muster("sweep", "best", "grid", "--json", "--metric", "train/loss", cwd=project))
    own = [[word.lstrip("+") for word in point["overrides"]] for point in best["points"]]
    assert own == [["train.options.lr=0.3"], ["train.options.lr=0.1"]]
