"""A search on a real Slurm: its controller is a small job that may die, its trials are jobs, bad ones are pruned."""

from __future__ import annotations

import csv
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from tests.slurm.live import LIMIT_S, lines, metrics, outcome
from tests.slurm.person import Person

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(580)]

pytest.importorskip("optuna")

TRIALS = 8
WORDS = [
    "experiment=demo", "cluster=devcluster", "cluster.nodes=1", "cluster.ranks_per_node=1", "tracking=none",
    "parallel=zero0",
    "data.max_length=64", "train.max_steps=60", "train.eval_steps=5", "train.eval_samples=0",
    "checkpoint.export=never", "schedule=constant",
    "-m", "sweep=optuna", "sweep.sampler=grid", f"sweep.trials={TRIALS}", "sweep.parallel_trials=3",
    "sweep.name=search", "sweep.pruner_options={n_startup_trials: 1}", "sweep.controller={time: '10:00'}",
    "optim.learning_rate=1e-7,2e-7,1e-2,2e-2,3e-7,4e-7,8e-3,12e-3",
]  # fmt: skip


def wait_until(seen: Any, what: str, folder: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not seen():
        if time.monotonic() > deadline:
            said = "\n".join(path.read_text()[-2000:] for path in sorted((folder / "logs").iterdir()))
            raise AssertionError(f"{what} did not happen\n{said}")
        time.sleep(0.5)


def test_eight_trials_with_pruning_survive_their_controller(person: Person, tmp_path: Path) -> None:
    work = person.home / "search"
    work.mkdir()
    shutil.chown(work, person.uid, person.gid)
    told = json.loads(person.muster("submit", *WORDS, "--json", cwd=work))
    folder = Path(told["folder"])
    again = json.loads(person.muster("submit", *WORDS, "--json", cwd=work))
    assert (again["controller"], again["goes_on"]) == (told["controller"], True)

    def points() -> list[RunFolder]:
        return [
            RunFolder(Path(point["run_dir"])) for point in json.loads((folder / "sweep.json").read_text())["points"]
        ]

    def trained() -> bool:
        return len(points()) >= 2 and all(metrics(run) for run in points()[:2])

    wait_until(trained, "the first trials", folder)
    person.run("scancel", "--batch", "--signal=USR1", told["controller"])  # as Slurm does when its time is nearly up

    def queued_again() -> bool:
        return "Restarts=1" in person.run("scontrol", "show", "job", "-o", told["controller"]).stdout

    wait_until(queued_again, "the controller's requeue", folder)
    person.run("scancel", told["controller"])
    resumed = ""

    def sent_again() -> bool:
        nonlocal resumed
        resumed = person.muster("sweep", "resume", "search", cwd=work)
        return "there already" not in resumed

    wait_until(sent_again, "another controller", folder)
    wait_until(lambda: (folder / "report.html").exists(), "the end of the search", folder)

    runs = points()
    assert len({run.path for run in runs}) == len(runs) == TRIALS
    assert all(len([line for line in lines(run.submissions) if line["event"] == "sent"]) == 1 for run in runs)
    states = [outcome(run)["state"] for run in runs]
    assert set(states) == {"done", "stopped"}, states
    best = json.loads(person.muster("sweep", "best", "search", "--json", cwd=work))
    losses = {str(run.path): outcome(run)["metrics"]["eval/loss"] for run in runs if outcome(run)["state"] == "done"}
    placed = [point for point in best["points"] if point["place"] is not None]
    assert [point["value"] for point in placed] == sorted(losses.values())
    assert placed[0]["value"] == losses[placed[0]["folder"]]
    assert float(placed[0]["overrides"][0].partition("=")[2]) > 1e-3
    assert len(list(csv.reader((folder / "points.csv").open()))) == TRIALS + 1
    script = (folder / "controller.sbatch").read_text()
    assert "#SBATCH --time=10:00" in script
