"""The faults of the soak, each as something that is done to a run on a devcluster, and how the run is followed."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conf.layout import Attempt, RunFolder
from slurm.devcluster import faults
from tests.faults.local_runs import steps_of
from tests.slurm import live
from tests.slurm.live import decision, lines, parent_of, process_of
from tests.slurm.person import Person

LIMIT_S = 600.0
TRIES = 4
CUT_S = 5.0
PAUSE_S = 3.0
HURRY_S = 15.0


@dataclass
class Scene:
    """A run on the devcluster in `site`, and what has been done to it."""

    person: Person
    site: Path
    folder: RunFolder
    run_id: str
    rng: random.Random
    done: list[str] = field(default_factory=list)
    by_hand: int = 0
    mend: list[Callable[[], None]] = field(default_factory=list)
    hurried: dict[str, float] = field(default_factory=dict)
    """Jobs whose wait was cut short, and when: each update puts the start off again."""

    @property
    def attempt(self) -> Attempt:
        """The newest attempt."""
        numbers = [int(path.name) for path in self.folder.attempts.iterdir() if path.name.isdigit()]
        return self.folder.attempt(max(numbers))

    @property
    def hosts(self) -> list[str]:
        """The nodes of the newest attempt."""
        started = [line for line in lines(self.folder.events) if line["event"] == "attempt_started"]
        own = [line["hosts"] for line in started if line["attempt"] == self.attempt.number]
        return list(own[-1]) if own else []

    def is_over(self) -> bool:
        return live.outcome(self.folder).get("state") == "done"

    def queued(self) -> dict[str, tuple[str, str]]:
        """Slurm's jobs of the run: state and reason by id."""
        ids = {str(line["job_id"]) for line in lines(self.folder.submissions) if line["event"] == "sent"}
        said = self.person.run("squeue", "-h", "-o", "%i|%T|%r", check=False).stdout.splitlines()
        jobs = {job: (state, reason) for job, state, reason in (line.split("|", 2) for line in said)}
        return {job: found for job, found in jobs.items() if job in ids}

    def rank(self) -> int:
        """The process of one of the two ranks."""
        rank = self.rng.randrange(2)
        return process_of(self.attempt.rank_log(rank, rank))


def kill_rank(scene: Scene) -> None:
    os.kill(scene.rank(), signal.SIGKILL)


def crash_rank(scene: Scene) -> None:
    os.kill(scene.rank(), signal.SIGSEGV)


def kill_agent(scene: Scene) -> None:
    os.kill(parent_of(scene.rank()), signal.SIGKILL)


def kill_batch_shell(scene: Scene) -> None:
    os.kill(int(json.loads(scene.attempt.job.read_text())["pid"]), signal.SIGKILL)


def pause_rank(scene: Scene) -> None:
    """A rank stands still for a moment, then goes on."""
    pid = scene.rank()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(PAUSE_S)
    os.kill(pid, signal.SIGCONT)


def preempt(scene: Scene) -> None:
    """A job of a partition that goes first wants the run's nodes."""
    hosts = scene.hosts
    wanted = ["--partition=main", f"--nodes={len(hosts)}", f"--nodelist={','.join(hosts)}", "--exclusive"]
    scene.person.run("sbatch", "--parsable", *wanted, "--output=/dev/null", "--wrap=exit 0")


def requeue(scene: Scene) -> None:
    for job, (state, _) in scene.queued().items():
        if state == "RUNNING":
            scene.person.run("scontrol", "requeue", job, check=False)


def kill_node(scene: Scene) -> None:
    """A node loses its power; it comes back once the run goes on without it."""
    name = scene.rng.choice(scene.hosts)
    faults.kill_node(name, scene.site)
    scene.mend.append(lambda: faults.restore_node(name, scene.site))


def cut_link(scene: Scene) -> None:
    """The two nodes do not reach each other for some seconds."""
    hosts = scene.hosts
    faults.cut_link(*hosts, folder=scene.site)
    time.sleep(CUT_S)
    faults.mend_link(*hosts, folder=scene.site)


def flip_bit(scene: Scene) -> None:
    """A bit of the newest checkpoint changes, then a rank is killed: the checkpoint before it has to do."""
    saved = sorted(path for path in scene.folder.checkpoints.glob("step-*") if (path / "manifest.json").exists())
    victim = max((path for path in saved[-1].rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    with victim.open("r+b") as file:
        place = scene.rng.randrange(victim.stat().st_size)
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1 << scene.rng.randrange(8)]))
    kill_rank(scene)


def stop_and_resume(scene: Scene) -> None:
    """A person stops the run, then goes on with it."""
    scene.person.muster("stop", scene.run_id, cwd=scene.person.home)
    wait(lambda: live.outcome(scene.folder).get("state") in ("stopped", "done"), scene, "the stop")
    if not scene.is_over():
        scene.person.muster("resume", scene.run_id, cwd=scene.person.home)


def fill_disk(scene: Scene) -> None:
    """The disk of the run is full for some seconds: saves fail, and it goes on."""
    filler = scene.person.home / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        except OSError:
            pass
    time.sleep(CUT_S)
    filler.unlink()


FAULTS: tuple[Callable[[Scene], None], ...] = (
    kill_rank,
    crash_rank,
    kill_agent,
    kill_batch_shell,
    pause_rank,
    preempt,
    requeue,
    kill_node,
    cut_link,
    flip_bit,
    stop_and_resume,
    fill_disk,
)


def strike(scene: Scene, fault: Callable[[Scene], None]) -> None:
    """Do it; once more where the attempt ended just before, so that nobody was there to be struck."""
    for turn in range(TRIES):
        try:
            fault(scene)
            return
        except (AssertionError, ProcessLookupError, IndexError):
            if turn == TRIES - 1 or scene.is_over():
                raise
            wait_for_work(scene, 1)


def chosen(count: int, rng: random.Random) -> list[Callable[[Scene], None]]:
    """So many faults in random order, each kind as often as the others."""
    rounds = [rng.sample(FAULTS, len(FAULTS)) for _ in range(count // len(FAULTS) + 1)]
    return [fault for each in rounds for fault in each][:count]


def wait_for_work(scene: Scene, more: int) -> None:
    """Until the run has made `more` steps and a checkpoint since now in an attempt that lives, or is done.

    Meanwhile the queue is spared its waits, and what does not come back by itself is resumed as a person would.
    """
    started = steps_in(scene)
    saved = saved_steps(scene)

    def enough() -> bool:
        if scene.is_over():
            return True
        own = steps_of(scene.folder, scene.attempt.number)
        return steps_in(scene) >= started + more and saved_steps(scene) > saved and len(own) > 0

    wait(enough, scene, f"{more} steps after {scene.done[-1:]}", nudge)


def steps_in(scene: Scene) -> int:
    """Lines of steps, of all attempts."""
    return sum("train/loss" in line for line in live.metrics(scene.folder))


def saved_steps(scene: Scene) -> int:
    return sum(line["event"] == "checkpoint" for line in lines(scene.folder.events))


def nudge(scene: Scene) -> None:
    """What an administrator and a person do: nodes come back, waits are cut short, a run that ended goes on."""
    jobs = scene.queued()
    for job, (state, reason) in jobs.items():
        if state != "PENDING":
            continue
        if "held" in reason.lower():
            subprocess.run(["scontrol", "release", job], check=False, env=scene.person.environment)
        elif reason == "BeginTime" and time.monotonic() - scene.hurried.get(job, 0.0) > HURRY_S:
            scene.hurried[job] = time.monotonic()
            words = ["scontrol", "update", f"JobId={job}", "StartTime=now+2"]
            subprocess.run(words, check=False, capture_output=True, env=scene.person.environment)
    if jobs and all(state == "PENDING" for state, _ in jobs.values()):
        while scene.mend:
            scene.mend.pop()()
    if not jobs and not scene.is_over():
        time.sleep(2)  # a job that was just requeued is in no list for a moment
        if not scene.queued() and not scene.is_over():
            scene.by_hand += 1
            scene.person.muster("resume", scene.run_id, cwd=scene.person.home, check=False)


def wait(seen: Callable[[], bool], scene: Scene, what: str, meanwhile: Callable[[Scene], None] | None = None) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not seen():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not in {LIMIT_S:.0f} s\n{state_of(scene)}")
        if meanwhile is not None:
            meanwhile(scene)
        time.sleep(0.5)


def state_of(scene: Scene) -> str:
    """What a person would look at."""
    if not scene.folder.attempts.is_dir():
        return str(scene.queued())
    attempt = scene.attempt
    logs = [f"{path}\n{path.read_text(errors='replace')[-1500:]}" for path in sorted(attempt.logs.glob("*.log"))]
    stands = [f"faults: {', '.join(scene.done)}", str(live.outcome(scene.folder)), str(scene.queued())]
    return "\n---\n".join([*stands, decision(scene.folder, attempt.number), *logs])


def goodput(folder: RunFolder, steps: int) -> dict[str, Any]:
    """Useful step time against the time from the first step's job to the end; what was lost."""
    made = [line for line in live.metrics(folder) if "train/loss" in line]
    pairs = itertools.pairwise(made)
    times = sorted(
        b["time"] - a["time"] for a, b in pairs if a["attempt"] == b["attempt"] and b["step"] == a["step"] + 1
    )
    median = times[len(times) // 2]
    first = json.loads(folder.attempt(0).job.read_text())["time"]
    wall = live.outcome(folder)["time"] - first
    return {
        "goodput": round(steps * median / wall, 3),
        "step_s": round(median, 3),
        "wall_s": round(wall),
        "steps_lost": len(made) - steps,
        "attempts": len([path for path in folder.attempts.iterdir() if path.name.isdigit()]),
    }
