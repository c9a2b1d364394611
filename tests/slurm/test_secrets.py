"""Secrets of the submitting shell reach no run folder, no cache, no command line, and nothing that Slurm keeps."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conf.layout import RunFolder
from slurm.devcluster import Record
from tests.slurm.live import job_of
from tests.slurm.person import Person

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(400)]

CANARY = "canary5f2d9c81"
SECRETS = {
    "WANDB_API_KEY": f"0123456789{CANARY}abcdef0123456789",
    "WANDB_BASE_URL": f"https://me:{CANARY}@wandb.example.com",
    "HF_TOKEN": f"hf_{CANARY}{CANARY}",
    "HTTPS_PROXY": f"http://me:{CANARY}@proxy.example.com:3128",
    "http_proxy": f"http://me:{CANARY}@proxy.example.com:3128",
    "AWS_ACCESS_KEY_ID": f"AKIA{CANARY}",
    "AWS_SECRET_ACCESS_KEY": CANARY * 3,
    "MUSTER_API_KEY": CANARY,
}
HELD = [
    *(
        "experiment=demo",
        "cluster=devcluster",
        "cluster.nodes=1",
        "cluster.ranks_per_node=1",
        "checkpoint.export=never",
    ),
    *("tracking=wandb", "tracking.mode=online", "cluster.sbatch={hold: true}"),
]


@contextmanager
def command_lines() -> Iterator[set[str]]:
    """Every command line that is seen on this machine meanwhile, which any user may read."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    try:
                        seen.add((entry / "cmdline").read_bytes().decode(errors="replace"))
                    except OSError:
                        continue

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_nothing_of_a_shells_secrets_is_kept(strict: Record, member: Person, tmp_path: Path) -> None:
    work = member.home / "secrets"
    work.mkdir()
    shutil.chown(work, member.uid, member.gid)
    said = []

    def muster(*words: str, expected: int = 0) -> str:
        argv = [str(member.python), "-m", "muster", *words]
        done = member.run(*argv, cwd=work, check=False, **SECRETS)
        assert done.returncode == expected, done.stdout + done.stderr
        said.append(done.stdout + done.stderr)
        return done.stdout

    with command_lines() as argvs:
        muster("plan", *HELD)
        job = str(job_of(RunFolder(Path(json.loads(muster("submit", *HELD, "--json"))["folder"]))))
        muster("submit", *HELD, "-m", "train.seed=1,2")
        muster("status")
        muster("doctor")
    script, variables = (sacct(strict, question, job) for question in ("--batch-script", "--env-vars"))
    assert "body.sh" in script
    assert "HOME=" in variables
    member.run("scancel", f"--user={member.name}")

    assert [text for text in (*said, *argvs, script, variables) if CANARY in text] == []
    places = [work, member.home, Path(strict.folder)]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert len([path for path in files if "job." in str(path)]) > 3
    assert any("database" in path.parts for path in files)
    assert [str(path) for path in files if holds_canary(path)] == []
    assert any("does not pass: its value holds a password" in text for text in said)


@pytest.mark.parametrize(
    "override",
    [
        f"data.train_file=https://me:{CANARY}@data.example.com/a.jsonl",
        "tracking.run_name=${oc.env:WANDB_API_KEY}",
        "cluster.env={AWS_SECRET_ACCESS_KEY: x}",
        "cluster.env={A: '${oc.env:AWS_SECRET_ACCESS_KEY}'}",
        f"cluster.setup=['export HF_TOKEN=hf_{CANARY}{CANARY}']",
    ],
)
def test_a_secret_in_the_configuration_is_refused(override: str, member: Person, tmp_path: Path) -> None:
    work = member.home / tmp_path.name
    work.mkdir()
    shutil.chown(work, member.uid, member.gid)
    argv = [str(member.python), "-m", "muster", "submit", *HELD, override]
    done = member.run(*argv, cwd=work, check=False, **SECRETS)
    assert done.returncode == 2, done.stdout + done.stderr
    assert list(work.iterdir()) == []
    if "oc.env" in override:
        assert CANARY not in done.stdout + done.stderr


def sacct(strict: Record, question: str, job: str) -> str:
    """What the accounting database has kept of a job."""
    variables = {"PATH": "/usr/bin:/bin", "SLURM_CONF": str(strict.slurm_conf)}
    argv = ["sacct", question, "-j", job]
    return subprocess.run(argv, env=variables, capture_output=True, text=True, check=True).stdout


def holds_canary(path: Path) -> bool:
    try:
        return CANARY.encode() in path.read_bytes()
    except OSError:
        return False  # a daemon's file that went meanwhile
