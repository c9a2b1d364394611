"""The job script on a cluster, `batch` and its nodes' steps: small scripts stand in for Slurm's commands and Python."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conf.layout import RunFolder
from launcher.runs.submissions import read_submissions, write_line
from tests.unit.runs import write_job

HEAD = '#!/bin/bash\nsite=$(dirname "$0")\n'
COMMANDS = {
    "scontrol": """printf 'scontrol %s\\n' "$*" >>"$site/calls"
case "$*" in
  'show hostnames'*)
    touch "$site/asked"
    while [[ -e $site/WAIT ]]; do /bin/sleep 0.05; done
    tr , '\\n' <<<"$3"
    ;;
  *'show node'*) cat "$site/nodes" ;;
  *'show job'*) cat "$site/job" ;;
esac
""",
    "squeue": """if [[ $* == *%L* ]]; then echo 1:00:00; else source "$site/queue"; fi
""",
    "sbatch": """printf 'sbatch %s\\n' "${*: -1}" >>"$site/calls"
source "$site/answer"
""",
    "scancel": """printf 'scancel %s\\n' "$*" >>"$site/calls"
""",
    "srun": """nodes=$(<"$site/order") output=/dev/stdout number=0
while [[ $1 == --* ]]; do
  case $1 in
    --output=*) output=${1#*=} ;;
    --nodelist=*) nodes=${1#*=} ;;
  esac
  shift
done
for node in $nodes; do
  SLURM_NODEID=$number SLURMD_NODENAME=$node "$@" >>"${output//%n/$number}" 2>&1 &
  number=$((number + 1))
done
status=0
for task in $(jobs -p); do wait "$task" || status=$?; done
exit $status
""",
    "sleep": """exec /bin/sleep 0.05
""",
}
PROGRAM = """#!/bin/bash
case $4 in
  agent)
    echo "here is $ON_NODE"
    printf '%s\\n' "$MUSTER_NODE_RANK $MUSTER_HEAD" >"$5/seen-$ON_NODE"
    source "$5/agent"
    ;;
  decide)
    printf '%s\\n' "$MUSTER_NODE_RANK $ON_NODE" >"$5/decided"
    echo end >"$5/attempts/$MUSTER_ATTEMPT/decision"
    ;;
esac
"""
RUNNING = "JobId=7 JobName=x JobState=RUNNING Reason=None Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1 "
COMPLETING = RUNNING.replace("RUNNING", "COMPLETING")
NODE_DOWN = COMPLETING.replace("Reason=None", "Reason=NodeDown")
REQUEUED = RUNNING.replace("RUNNING", "PENDING").replace("Restarts=0", "Restarts=1")
LOST = "NodeName=n2 Arch=x86_64 State=DOWN*+CLOUD Reason=Not responding [slurm@2026-01-01T00:00:00]\n"
ASLEEP = "NodeName=n1 Arch=x86_64 State=IDLE+CLOUD+POWERED_DOWN SlurmdStartTime=2020-01-01T00:00:00\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Three nodes, of which the third has the lowest number."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in COMMANDS.items():
        (folder / name).write_text(HEAD + text)
        (folder / name).chmod(0o755)
    texts = {"order": "n3 n2 n1\n", "nodes": ASLEEP, "job": f"{RUNNING}\n", "queue": "true\n", "answer": "echo 50\n"}
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    content = {
        folder.job.settings: f"scratch={tmp_path}/scratch\ncontinuation=none\nlock_patience=0\n",
        folder.job.setup: "export ON_NODE=$SLURMD_NODENAME\n",
        folder.job.srun: "--nodes=3\n",
        folder.path / "agent": "true\n",
    }
    return write_job(folder, PROGRAM, content)


def start(run: RunFolder, site: Path, restarts: int = 0) -> subprocess.Popen[str]:
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1,n2,n3", "SLURMD_NODENAME": "n3"}
    slurm |= {"SLURM_RESTART_COUNT": str(restarts)}
    shell = {"PATH": f"{site}:/usr/bin:/bin", "HOME": "/nowhere"} | slurm
    argv = ["bash", str(run.job.body), "batch", str(run.path)]
    return subprocess.Popen(argv, env=shell, cwd=run.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(run: RunFolder, site: Path, restarts: int = 0) -> tuple[int, str]:
    process = start(run, site, restarts)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


def chained(run: RunFolder) -> None:
    run.job.settings.write_text(run.job.settings.read_text().replace("=none", "=chain"))


def end_with(run: RunFolder, site: Path, job: str, *more: str) -> None:
    """What the ranks do: they fail as Slurm says of the job what it does."""
    (site / "then").write_text(f"{job}\n")
    (run.path / "agent").write_text("\n".join([*more, f"cp {site}/then {site}/job", "exit 1", ""]))


def calls(site: Path, command: str) -> list[str]:
    return [line for line in (site / "calls").read_text().splitlines() if line.startswith(f"{command} ")]


def test_nodes_are_numbered_from_the_batch_host_whatever_slurm_numbers_them(
    run: RunFolder, site: Path, tmp_path: Path
) -> None:
    assert ended(run, site)[0] == 0
    attempt = run.attempt(0)
    hosts = attempt.hosts.read_text().split()
    assert hosts == ["n3", "n1", "n2"]
    for number, host in enumerate(hosts):
        assert (run.path / f"seen-{host}").read_text() == f"{number} n3\n"
        assert f"here is {host}" in attempt.agent_log(number).read_text()
    assert (run.path / "decided").read_text() == "0 n3\n"
    assert not list((tmp_path / "scratch").glob("*/job-*"))


def test_a_node_that_is_not_among_the_hosts_has_slurms_number(run: RunFolder, site: Path) -> None:
    (site / "order").write_text("front1 front2\n")
    assert ended(run, site)[0] == 0
    assert [(run.path / f"seen-front{number}").read_text().split()[0] for number in (1, 2)] == ["0", "1"]


ENDS: dict[str, tuple[str, str, bool]] = {
    "a node failed": (NODE_DOWN, "", True),
    "a node failed, and the job is over": (NODE_DOWN.replace("COMPLETING", "NODE_FAIL"), "", True),
    "a plain scancel": (COMPLETING, "", False),
    "cancelled as a node failed": (NODE_DOWN, "cancelled", False),
    "asked to stop as a node failed": (NODE_DOWN, "stopped", False),
}


@pytest.mark.parametrize(("job", "stop", "goes_on"), ENDS.values(), ids=ENDS)
def test_the_end_of_a_job_of_a_chain(job: str, stop: str, goes_on: bool, run: RunFolder, site: Path) -> None:
    chained(run)
    (site / "nodes").write_text(LOST)
    end_with(run, site, job, f"echo {stop} >{run.stop}" if stop else "")
    ended(run, site)
    assert [sent.job_id for sent in read_submissions(run)] == ["50"]
    assert (calls(site, "scancel") if (site / "calls").exists() else []) == ([] if goes_on else ["scancel 50"])
    assert run.outcome.exists() != goes_on
    assert run.attempt(0).down.read_text().startswith("n2 DOWN*+CLOUD Not responding")


def test_nodes_are_asked_for_when_the_attempt_ends_and_not_when_the_next_one_starts(run: RunFolder, site: Path) -> None:
    end_with(run, site, REQUEUED)
    ended(run, site)
    assert run.attempt(0).down.read_text() == "", "a node without power is not lost"
    (site / "nodes").write_text(LOST)
    (site / "job").write_text(REQUEUED.replace("PENDING", "RUNNING"))
    (run.path / "agent").write_text("true\n")
    assert ended(run, site, restarts=1)[0] == 0
    assert run.attempt(1).decision.exists()
    assert run.attempt(0).down.read_text() == ""


def test_nodes_of_which_slurm_said_nothing_are_asked_for_again(run: RunFolder, site: Path) -> None:
    end_with(run, site, REQUEUED)
    (site / "nodes").unlink(missing_ok=True)
    ended(run, site)
    assert not run.attempt(0).down.exists()
    (site / "nodes").write_text(LOST)
    (site / "job").write_text(REQUEUED.replace("PENDING", "RUNNING"))
    (run.path / "agent").write_text("true\n")
    assert ended(run, site, restarts=1)[0] == 0
    assert run.attempt(0).down.read_text().startswith("n2 DOWN*+CLOUD")


def test_the_nodes_of_a_shell_that_died_are_asked_for_later(run: RunFolder, site: Path) -> None:
    before = run.attempt(0)
    before.folder.mkdir(parents=True)
    before.hosts.write_text("n2\n")
    before.job.write_text('{"time": 1700000000}')
    (site / "nodes").write_text(LOST)
    assert ended(run, site)[0] == 0
    assert before.down.read_text().startswith("n2 DOWN*+CLOUD")


@pytest.mark.parametrize(
    ("answer", "free"),
    [
        ("true", True),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", True),
        ("echo RUNNING", False),
        ("exit 1", False),
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", False),
        ("kill -KILL $$", False),
    ],
    ids=["over", "forgotten", "running", "failed", "away", "killed"],
)
def test_a_lock_is_removed_where_slurm_says_that_its_job_is_gone(
    answer: str, free: bool, run: RunFolder, site: Path
) -> None:
    run.lock.write_text("slurm:5\n")
    (site / "queue").write_text(f"{answer}\n")
    status, said = ended(run, site)
    assert (status == 0) == free
    assert ("slurm:5 holds the run" in said) != free
    assert run.lock.exists() != free


def test_a_lock_that_changed_hands_meanwhile_stays(run: RunFolder, site: Path) -> None:
    run.lock.write_text("slurm:5\n")
    (site / "queue").write_text(f"if [[ $* == *5 ]]; then echo slurm:6 >{run.lock}; else echo RUNNING; fi\n")
    status, said = ended(run, site)
    assert status == 1
    assert "slurm:6 holds the run" in said
    assert run.lock.read_text() == "slurm:6\n"
    assert not list(run.path.glob(".LOCK*"))


def test_a_job_whose_answer_was_lost_is_not_sent_again_before_squeue_has_answered(run: RunFolder, site: Path) -> None:
    """sbatch is killed after Slurm took the job, and squeue has no answer at first."""
    chained(run)
    (site / "answer").write_text('if [[ -e $site/taken ]]; then echo 52; else touch "$site/taken"; kill -KILL $$; fi\n')
    answer = f'if [[ -e $site/deaf ]]; then echo "51 {run.job_sbatch}"; else touch "$site/deaf"; exit 1; fi\n'
    (site / "queue").write_text(answer)
    assert ended(run, site)[0] == 0
    assert calls(site, "sbatch") == [f"sbatch {run.job_sbatch}"]
    assert [sent.job_id for sent in read_submissions(run)] == ["51"]


@pytest.mark.parametrize(("queue", "sent"), [("exit 1", []), ("true", ["50"])], ids=["no-answer", "none-there"])
def test_what_nobody_answered_for_stays_open(queue: str, sent: list[str], run: RunFolder, site: Path) -> None:
    chained(run)
    write_line(run, "sending", "train")
    (site / "queue").write_text(f"{queue}\n")
    ended(run, site)
    assert [one.job_id for one in read_submissions(run)] == sent
    assert len(calls(site, "sbatch")) == len(sent)
    assert '"refused"' not in run.submissions.read_text()


@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGTERM, "preempted"), (signal.SIGUSR1, "time_limit"), (signal.SIGUSR2, "stopped")],
    ids=["preempted", "warned", "poked"],
)
def test_a_signal_before_the_ranks_is_kept_for_them(
    number: signal.Signals, word: str, run: RunFolder, site: Path
) -> None:
    (site / "WAIT").touch()
    (run.path / "agent").write_text('cp "$5/STOP" "$5/heard"\n')
    process = start(run, site)
    _wait_until((site / "asked").exists)
    process.send_signal(number)
    (site / "WAIT").unlink()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (run.path / "heard").read_text() == f"{word}\n"
    assert json.loads(run.attempt(0).job.read_text())["pid"] == process.pid


def test_an_early_signal_of_a_cancelled_job_says_so(run: RunFolder, site: Path) -> None:
    (site / "WAIT").touch()
    process = start(run, site)
    _wait_until((site / "asked").exists)
    (site / "job").write_text(f"{COMPLETING}\n")
    process.send_signal(signal.SIGTERM)
    (site / "WAIT").unlink()
    process.communicate(timeout=60)
    assert run.stop.read_text() == "cancelled\n"
    assert json.loads(run.outcome.read_text())["state"] == "cancelled"
    assert not run.lock.exists()


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
