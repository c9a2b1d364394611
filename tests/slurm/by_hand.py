"""A run folder made by hand, with a stand-in for Python that writes what train/ would: the job script on trial."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from conf.layout import RunFolder
from slurm import options
from slurm.client import Client
from slurm.devcluster import Record
from slurm.scripts import read_body
from slurm.step import srun_arguments
from tests.slurm.person import Person

PROGRAM = """\
#!/bin/bash
# Called as Python is: -I -u ZIP VERB RUN. The agent lives until STOP or FINISH is there.
verb=$4 run=$5
if [[ $verb == agent ]]; then
  trap 'echo preempted >"$run/STOP"' TERM
  env >"$run/attempts/$MUSTER_ATTEMPT/env$MUSTER_NODE_RANK"
  while [[ ! -e $run/STOP && ! -e $run/FINISH ]]; do sleep 0.1; done
else
  word=end
  [[ -e $run/STOP && $(<"$run/STOP") != stopped ]] && word=requeue
  echo "$word" >"$run/attempts/$MUSTER_ATTEMPT/decision"
fi
"""


def wait_for(seen: Callable[[], object], what: str, limit_s: float = 60) -> None:
    """Come back as soon as `seen` holds."""
    deadline = time.monotonic() + limit_s
    while not seen():
        assert time.monotonic() < deadline, f"{what} did not happen in {limit_s:.0f} s"
        time.sleep(0.1)


@dataclass
class Job:
    """A run folder made by hand, and its job."""

    person: Person
    client: Client
    folder: RunFolder
    id: str = ""

    def submit(self) -> None:
        argv = ["sbatch", "--parsable", str(self.folder.job_sbatch)]
        self.id = self.person.run(*argv, SECRET="canary", KEPT_ONE="yes").stdout.strip()

    def field(self, name: str) -> str:
        shown = subprocess.run(["scontrol", "-o", "show", "job", self.id], capture_output=True, text=True).stdout
        return next((word.split("=", 1)[1] for word in shown.split() if word.startswith(f"{name}=")), "")

    def attempt_runs(self, number: int) -> None:
        own = self.folder.attempt(number).folder
        wait_for(lambda: (own / "env0").exists() and (own / "env1").exists(), f"attempt {number}\n{self.log(number)}")

    def log(self, number: int) -> str:
        path = self.folder.attempt(number).job_log
        return path.read_text() if path.exists() else ""

    def poke(self, name: str) -> None:
        self.person.run("touch", str(self.folder.path / name))

    def ends_in(self, *states: str) -> None:
        wait_for(lambda: self.field("JobState") in states, f"{states}\n{self.log(0)}")


def make_by_hand(
    person: Person,
    devcluster: Record,
    name: str,
    partition: str = "main",
    continuation: str = "requeue",
    more: str = "",
) -> Job:
    """A run folder that a job of two nodes runs; `more` are further lines of its settings."""
    folder = RunFolder(person.home / name)
    content = {
        folder.job.body: read_body().decode(),
        folder.job.python: f"{folder.path}/program\n",
        folder.job.srun: "\n".join(srun_arguments(nodes=2, cpus_per_task=2, mem="500")) + "\n",
        folder.job.settings: f"continuation={continuation}\nmax_requeues=3\nlock_patience=2\n"
        f"scratch={person.home}/scratch\n{more}",
        folder.job.env: "FROM_FILE=$(touch pwned) `x` \"q\" 'p'\n",
        folder.job.allow: "KEPT_*\n",
        folder.job.setup: "FROM_SETUP=yes; export FROM_SETUP\n",
        folder.path / "program": PROGRAM,
    }
    lines = options.render(
        options.batch_options(
            job_name=name, nodes=2, signal_lead_s=60,
            requeue=continuation == "requeue",
            output=f"{options.literal_path(str(folder.path))}/slurm-%j.log",
            export=["PATH", "HOME", "KEPT_ONE", "SECRET"], resources={"cpus_per_task": 2, "mem": "1000"},
            extra={"partition": partition, "time": "5"},
        )
    )  # fmt: skip
    start = f'exec bash "{folder.job.body}" batch "{folder.path}"'
    content[folder.job_sbatch] = "\n".join(["#!/bin/bash", *lines, start, ""])
    for path, text in content.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder.path / "program").chmod(0o755)
    subprocess.run(["chown", "-R", f"{person.uid}:{person.gid}", str(folder.path)], check=True)
    return Job(person, Client(str(devcluster.slurm_conf), squeue_age_s=0), folder)
