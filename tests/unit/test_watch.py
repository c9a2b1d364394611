"""Which class a failure belongs to, how an end is said, and what the machine tells."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from conf.cause import classify_exit, describe_exit
from conf.layout import Attempt
from conf.outcome import Cause, Failure, RankExit
from train.node.causes import classify
from train.node.env import MissingEnvironmentError, read_node_env, read_rank_env
from train.node.kernel import count_memory_kills, read_log
from train.node.process import cores_near, parse_cores
from train.node.watch import Watch, record_failure, speak_for_the_silent


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


class OwnWordError(Exception):
    cause = Cause.data


class DistBackendError(RuntimeError):
    """Named as torch names its own."""


def caused(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


EXCEPTIONS = {
    "own word": (OwnWordError("row 7"), Cause.data),
    "memory": (MemoryError(), Cause.oom),
    "allocator": (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), Cause.oom),
    "fork without memory": (OSError(errno.ENOMEM, "Cannot allocate memory"), Cause.oom),
    "CUDA by type": (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), Cause.cuda_oom),
    "CUDA by text": (RuntimeError("CUDA error: out of memory"), Cause.cuda_oom),
    "missing module": (ModuleNotFoundError("No module named 'deepspeed'"), Cause.import_error),
    "missing library": (OSError("libcudart.so.12: cannot open shared object file"), Cause.import_error),
    "port": (OSError(errno.EADDRINUSE, "Address already in use"), Cause.port),
    "port by text": (
        RuntimeError("The server socket has failed to listen (errno: 98 - Address already in use)."),
        Cause.port,
    ),
    "disk": (OSError(errno.ENOSPC, "No space left on device"), Cause.disk_full),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), Cause.disk_full),
    "reset": (ConnectionResetError("gone"), Cause.lost_peer),
    "gloo reset": (RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:1234"), Cause.lost_peer),
    "NCCL": (DistBackendError("NCCL error: remote process exited or there was a network error"), Cause.lost_peer),
    "torch's, whatever it says": (DistBackendError("[3] is setting up NCCL communicator"), Cause.lost_peer),
    "torch's, with a class of its own": (
        DistBackendError("NCCL error in: NCCLUtils.hpp:268, unhandled system error (run with NCCL_DEBUG=INFO)"),
        Cause.nccl,
    ),
    "shared memory": (OSError(errno.ENOSPC, "No space left on device", "/dev/shm/torch_1"), Cause.shm_full),
    "stale": (OSError(errno.ESTALE, "Stale file handle"), Cause.file_system),
    "not allowed": (PermissionError(errno.EACCES, "Permission denied"), Cause.config),
    "gloo timeout": (RuntimeError("Timed out waiting 1800000ms for recv operation to complete"), Cause.hang),
    "caused by memory": (caused(ValueError("step 3"), MemoryError()), Cause.oom),
    "a person's text on ports": (ValueError("address already in use"), Cause.user_code),
    "anything else": (KeyError("labels"), Cause.user_code),
}


@pytest.mark.parametrize(("exception", "cause"), EXCEPTIONS.values(), ids=EXCEPTIONS)
def test_class_of_an_exception(exception: BaseException, cause: Cause) -> None:
    assert classify(exception) is cause


@pytest.mark.parametrize(
    ("status", "number", "memory", "cause", "words"),
    [
        (None, signal.SIGKILL, True, Cause.oom, "killed by SIGKILL"),
        (None, signal.SIGKILL, False, Cause.killed, "killed by SIGKILL"),
        (None, signal.SIGSEGV, True, Cause.killed, "killed by SIGSEGV"),
        (None, 99, False, Cause.killed, "killed by signal 99"),
        (3, None, False, Cause.unknown, "exit status 3"),
    ],
)
def test_class_of_an_end(status: int | None, number: int | None, memory: bool, cause: Cause, words: str) -> None:
    assert classify_exit(status, number, memory) is cause
    assert describe_exit(status, number) == words


def test_failure_file(tmp_path: Path) -> None:
    path = tmp_path / "failures" / "rank4.json"
    try:
        raise ValueError("row 7\nsecond line")
    except ValueError as error:
        record_failure(path, error, rank=4, node=2)
    failure = msgspec.json.decode(path.read_bytes(), type=Failure)
    assert (failure.rank, failure.node, failure.pid) == (4, 2, os.getpid())
    assert failure.message == "ValueError: row 7\nsecond line"
    assert 'raise ValueError("row 7' in failure.traceback


def test_agent_speaks_for_silent_ranks_only(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    record_failure(attempt.failure(1), ValueError("own word"), rank=1, node=0)
    exits = [
        RankExit(rank=0, local_rank=0, pid=10, time=1.0, exit_status=0),
        RankExit(rank=1, local_rank=1, pid=11, time=2.0, exit_status=1),
        RankExit(rank=2, local_rank=2, pid=12, time=3.0, signal=signal.SIGKILL),
        RankExit(rank=3, local_rank=3, pid=13, time=4.0, signal=signal.SIGTERM, ended_by_agent=True),
    ]
    speak_for_the_silent(attempt, 0, exits, out_of_memory=True)
    found = {path.name: msgspec.json.decode(path.read_bytes(), type=Failure) for path in attempt.failures.iterdir()}
    assert sorted(found) == ["rank1.json", "rank2.json"]
    assert found["rank1.json"].message == "ValueError: own word"
    assert (found["rank2.json"].cause, found["rank2.json"].time) == (Cause.oom, 3.0)


def test_watch_sees_the_true_end_and_leaves_it_to_be_reaped() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    first = subprocess.Popen([sys.executable, "-c", code])
    second = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    watch = Watch({0: first.pid, 1: second.pid}, first_rank=2)

    def wait_for_signal_of(local_rank: int) -> None:
        deadline = time.monotonic() + 30
        while watch.exits(succeeded=False, timeout_s=0)[local_rank].signal is None:
            assert time.monotonic() < deadline, f"the end of local rank {local_rank} was not seen"
            time.sleep(0.01)

    wait_for_signal_of(0)
    second.terminate()
    wait_for_signal_of(1)
    assert (first.wait(30), second.wait(30)) == (-signal.SIGKILL, -signal.SIGTERM)
    ends = watch.exits(succeeded=False)
    assert [(end.rank, end.signal, end.ended_by_agent) for end in ends] == [(2, 9, False), (3, 15, True)]


@pytest.mark.parametrize(
    ("group", "name", "content", "kills"),
    [
        ("0::/job_7/step_0", "job_7/step_0/memory.events", "low 0\noom 3\noom_kill 2\n", 2),
        (
            "5:cpu:/x\n4:memory:/slurm/job_7",
            "memory/slurm/job_7/memory.oom_control",
            "oom_kill_disable 0\noom_kill 1\n",
            1,
        ),
        ("0::/scope/job_7/step_0/user/task_0", "scope/job_7/memory.events", "oom_kill 4\n", 4),
        ("4:memory:/slurm/job_7/step_0", "memory/slurm/job_7/memory.oom_control", "oom_kill 1\n", 1),
        ("0::/job_7", "job_7/other", "", 9),
        ("0::/job_7", "job_7/memory.events", "not what it was\n", 9),
    ],
    ids=["v2", "v1", "v2, the job's", "v1, the job's", "no counter", "unknown format"],
)
def test_memory_kills(tmp_path: Path, group: str, name: str, content: str, kills: int) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.write_text(group + "\n")
    counters = tmp_path / "fs" / name
    counters.parent.mkdir(parents=True)
    counters.write_text(content)
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("pgfault 12\noom_kill 9\n")
    assert count_memory_kills(cgroup, tmp_path / "fs", vmstat) == kills


def test_memory_kills_where_nothing_counts(tmp_path: Path) -> None:
    assert count_memory_kills(tmp_path / "none", tmp_path, tmp_path / "none") == 0
    assert read_log(0.0, tmp_path / "none") == []


FRAME = '  File "/x/{name}.py", line {line} in call\n'
CRASH = (
    "step 7 loss 2.1\nFatal Python error: Segmentation fault\n\nThread 0x01 (most recent call first):\n"
    + FRAME.format(name="waits", line=1)
    + "\nCurrent thread 0x02 (most recent call first):\n"
    + "".join(FRAME.format(name=f"own{line}", line=line) for line in range(70))
    + "\nExtension modules: numpy, torch (total: 2)\n"
)
ABORT = """\
step 7 loss 2.1
terminate called after throwing an instance of 'c10::DistBackendError'
  what():  [PG ID 0 PG GUID 0 Rank 1] Process group watchdog thread terminated with exception: \
[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12, OpType=ALLREDUCE, Timeout(ms)=600000)
"""


OWN_ERROR = """\
[rank1]: Traceback (most recent call last):
[rank1]:   File "/x/own.py", line 7, in <module>
[rank1]: ValueError: a mistake
terminate called without an active exception
Fatal Python error: Aborted

Thread 0x01 (most recent call first):
  <no Python frame>
"""


@pytest.mark.parametrize(
    ("number", "log", "cause", "trace"),
    [
        (signal.SIGABRT, ABORT, Cause.nccl_timeout, "terminate called"),
        (signal.SIGABRT, OWN_ERROR, Cause.user_code, "ValueError: a mistake"),
        (signal.SIGABRT, "double free or corruption (out)\n", Cause.killed, ""),
        (signal.SIGSEGV, "step 1\nFatal Python error: Segmentation fault\n\n  File x.py\n", Cause.killed, "File x.py"),
        (signal.SIGSEGV, CRASH, Cause.killed, "own0.py"),
        (signal.SIGKILL, ABORT, Cause.killed, "terminate called"),
    ],
    ids=["NCCL's watchdog", "a thread as it left", "glibc", "Python's stack", "a long stack", "killed"],
)
def test_a_crash_leaves_its_words_in_the_log(tmp_path: Path, number: int, log: str, cause: Cause, trace: str) -> None:
    attempt = Attempt(tmp_path)
    attempt.logs.mkdir(parents=True)
    attempt.rank_log(0, 1).write_text(log)
    speak_for_the_silent(attempt, 0, [RankExit(rank=1, local_rank=1, pid=11, time=2.0, signal=number)], False)
    failure = msgspec.json.decode(attempt.failure(1).read_bytes(), type=Failure)
    assert failure.cause is cause
    assert trace in failure.traceback
    assert "terminate called without" not in failure.traceback
    assert len(failure.traceback.splitlines()) <= 13
    assert "waits.py" not in failure.traceback


@pytest.mark.parametrize(
    ("text", "cores"), [("0-3,8", {0, 1, 2, 3, 8}), ("5", {5}), ("", set()), ("0-1,4-5", {0, 1, 4, 5})]
)
def test_cores(text: str, cores: set[int]) -> None:
    assert parse_cores(text) == cores


def test_cores_near_a_gpu(tmp_path: Path) -> None:
    device = tmp_path / "bus/pci/devices/0000:3b:00.0"
    node = tmp_path / "devices/system/node/node1"
    device.mkdir(parents=True)
    node.mkdir(parents=True)
    (device / "numa_node").write_text("1\n")
    (node / "cpulist").write_text("16-19\n")
    assert cores_near("0000:3b:00.0", tmp_path) == {16, 17, 18, 19}
    (device / "numa_node").write_text("-1\n")
    assert cores_near("0000:3b:00.0", tmp_path) == set()


NODE = {
    "MUSTER_RUN": "/runs/a",
    "MUSTER_ATTEMPT": "3",
    "MUSTER_NODES": "2",
    "MUSTER_NODE_RANK": "1",
    "MUSTER_HEAD": "n1-ib",
    "MUSTER_PORT": "15001",
    "MUSTER_SCRATCH": "/tmp/x",
    "MUSTER_JOB": "slurm:12",
    "MUSTER_HOSTS": "n1 n2",
}


def test_node_environment() -> None:
    environment = read_node_env(NODE)
    assert (environment.attempt, environment.node, environment.hosts) == (3, 1, ("n1", "n2"))
    assert (environment.is_head, environment.is_local) == (False, False)


def test_missing_environment_names_everything() -> None:
    broken = {name: value for name, value in NODE.items() if name != "MUSTER_HEAD"} | {"MUSTER_PORT": "many"}
    with pytest.raises(
        MissingEnvironmentError, match=r"MUSTER_HEAD is not set .address of node 0.; MUSTER_PORT='many'"
    ):
        read_node_env(broken)
    with pytest.raises(MissingEnvironmentError, match=r"RANK is not set.*LOCAL_WORLD_SIZE is not set"):
        read_rank_env({})
