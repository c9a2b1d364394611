"""Rows 1 to 4: a rank is killed, crashes, leaves, raises, or memory runs out."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from conf.layout import RunFolder
from conf.outcome import State
from tests.faults.local_runs import (
    SHORT,
    folder_of,
    run_to_end,
    said,
    started,
    steps_of,
    undisturbed,
    wait_for,
    weights,
    why,
)
from tests.faults.memory_group import memory_group
from tests.faults.own_model import fault, words, write_own_model
from tests.slurm import live
from tests.slurm.live import process_of
from tests.slurm.person import Person
from tests.unit.runs import begin, end, make_run
from train.node.watch import record_failure

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

STEPS = 40
EVERY = 8
DOWN_S = 10.0
"""The table's mark: all ranks are down within this time."""
TINY = [*SHORT, "experiment=demo", f"train.max_steps={STEPS}", f"checkpoint.save_steps={EVERY}"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def whole(root: Path) -> RunFolder:
    return undisturbed(root, *TINY)


@pytest.fixture(scope="module")
def own_model(root: Path, whole: RunFolder) -> Path:
    return write_own_model(root / "own-model", whole.export)


def end_of(process: Any, since: float) -> float:
    """Seconds until the command came back, which it does once all ranks are gone."""
    process.wait(60)
    return time.monotonic() - since


def assert_gone(folder: RunFolder, attempt: int) -> None:
    for rank in (0, 1):
        with pytest.raises(AssertionError, match="nobody writes"):
            process_of(folder.attempt(attempt).rank_log(0, rank))


@pytest.mark.fault(1)
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGKILL, id="SIGKILL"),
        pytest.param(signal.SIGSEGV, id="SIGSEGV", marks=pytest.mark.long),
    ],
)
def test_a_rank_ended_by_a_signal(
    root: Path, whole: RunFolder, figures: dict[str, Any], number: signal.Signals
) -> None:
    """All come down, rank, host and signal are named, and what resumes ends with the same bits."""
    name = number.name.lower()
    with started(root, *TINY, name=name) as (process, folder):
        log = folder.attempt(0).rank_log(0, 1)
        wait_for(lambda: folder.checkpoint(2 * EVERY).exists(), process, "a checkpoint")
        at = time.monotonic()
        os.kill(process_of(log), number)
        figures["noticed_s"] = round(end_of(process, at), 1)
        assert process.returncode == 1
        assert f"rank 1 on {os.uname().nodename}" in said(process)
    assert figures["noticed_s"] <= DOWN_S
    assert_gone(folder, 0)
    found = why(root, folder)
    assert (found["cause"], found["rank"], found["host"]) == ("killed", 1, os.uname().nodename)
    assert number.name in found["message"]
    assert found["victims"] in ([0], [])
    reached = steps_of(folder, 0)[-1]
    assert reached < STEPS, "it was killed too late"
    go_on(root, folder, whole, figures, reached)


def go_on(root: Path, folder: RunFolder, whole: RunFolder, figures: dict[str, Any], reached: int) -> None:
    """Resume: from the newest checkpoint, to the same bits as the run that nothing disturbed."""
    at = time.time()
    run_to_end(root, "resume", str(folder.path))
    again = next(line for line in live.lines(folder.metrics) if line["attempt"] == 1 and "train/loss" in line)
    figures["again_s"] = round(again["time"] - at, 1)
    figures["steps_lost"] = reached - again["step"] + 1
    assert again["step"] % EVERY == 1, "it went on from a checkpoint"
    assert again["step"] > EVERY
    assert figures["steps_lost"] <= EVERY + 1
    assert weights(folder) == weights(whole)


@pytest.mark.fault(1)
@pytest.mark.long
def test_a_rank_that_leaves_by_itself(root: Path, own_model: Path, figures: dict[str, Any], tmp_path: Path) -> None:
    """A model's own code calls os._exit: no exception, no signal, and the same as after any other end."""
    run_to_end(root, "run", *TINY, *words(own_model), "name=own", f"run_root={root}")
    undisturbed = folder_of(root, "own")
    assert undisturbed is not None
    overrides = [*TINY, *words(own_model), fault("exit", 1, 2 * EVERY + 3, tmp_path / "gone")]
    with started(root, *overrides, name="leaves") as (process, folder):
        wait_for((tmp_path / "gone").exists, process, "the fault")
        figures["noticed_s"] = round(end_of(process, time.monotonic()), 1)
    assert figures["noticed_s"] <= DOWN_S
    found = why(root, folder)
    assert (found["cause"], found["rank"], found["host"]) == ("unknown", 1, os.uname().nodename)
    assert found["message"] == "exit status 7"
    assert "about to exit" in shown_in(found)
    go_on(root, folder, undisturbed, figures, steps_of(folder, 0)[-1])


@pytest.mark.fault(1)
@pytest.mark.long
def test_a_crash_in_compiled_code_keeps_its_stack(
    root: Path, own_model: Path, figures: dict[str, Any], tmp_path: Path
) -> None:
    """A model's own code reads where nothing is: the signal, and the Python line that did it."""
    overrides = [*TINY, *words(own_model), fault("crash", 1, 3, tmp_path / "gone")]
    with started(root, *overrides, name="crashes") as (process, folder):
        wait_for((tmp_path / "gone").exists, process, "the fault")
        figures["noticed_s"] = round(end_of(process, time.monotonic()), 1)
    found = why(root, folder)
    assert (found["cause"], found["rank"], found["message"]) == ("killed", 1, "killed by SIGSEGV")
    assert "go_wrong" in shown_in(found)
    assert found["title"] == "the process crashed in compiled code"


def shown_in(found: dict[str, Any]) -> str:
    return "\n".join(line for each in found["evidence"] for line in each["lines"])


@pytest.mark.fault(2)
def test_a_rank_that_raises(root: Path, own_model: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    """Its own traceback comes first, with the line of the model's code; no victim's."""
    overrides = [*TINY, *words(own_model), fault("raise", 1, 6, tmp_path / "gone")]
    with started(root, *overrides, name="raises") as (process, folder):
        wait_for((tmp_path / "gone").exists, process, "the fault")
        figures["noticed_s"] = round(end_of(process, time.monotonic()), 1)
    found = why(root, folder)
    assert (found["cause"], found["rank"], found["again"]) == ("user_code", 1, "progress")
    assert found["message"] == "IndexError: list index out of range"
    first = found["evidence"][0]
    assert first["source"] == f"rank 1 on {os.uname().nodename}"
    assert any('return outputs["weights"][0]' in line for line in first["lines"])
    shown = run_to_end(root, "why", str(folder.path))
    assert shown.index("IndexError: list index out of range") < shown.index("what shows it")
    assert max(len(line) for line in shown.splitlines() if "/" not in line) <= 80
    assert "\x1b" not in shown


@pytest.fixture
def hungry(own_model: Path, tmp_path: Path) -> list[str]:
    """A run whose rank 1 takes all memory that it gets."""
    return [*TINY, *words(own_model), "train.rehearsal=false", fault("memory", 1, 4, tmp_path / "gone")]


@pytest.mark.fault(3)
def test_the_kernel_ends_a_rank_for_want_of_memory(root: Path, hungry: list[str], figures: dict[str, Any]) -> None:
    """A control group's limit: the kernel kills the rank that asks for more, and `why` says so."""
    with (
        memory_group("muster-faults", 3 << 30) as start,
        started(root, *hungry, name="hungry", start=start) as (
            process,
            folder,
        ),
    ):
        wait_for(lambda: "about to memory" in read(folder.attempt(0).rank_log(0, 1)), process, "the fault")
        figures["noticed_s"] = round(end_of(process, time.monotonic()), 1)
    found = why(root, folder)
    assert (found["cause"], found["rank"], found["again"]) == ("oom", 1, "never")
    assert "SIGKILL" in found["message"]
    assert found["advice"]


@pytest.mark.fault(3)
@pytest.mark.long
def test_an_allocation_that_is_refused(root: Path, hungry: list[str], figures: dict[str, Any]) -> None:
    """A limit on address space, as some sites set it: Python's MemoryError, the same class."""
    overrides = [*hungry, "cluster.setup=['ulimit -v 9000000']"]
    with started(root, *overrides, name="refused") as (process, folder):
        wait_for(lambda: "about to memory" in read(folder.attempt(0).rank_log(0, 1)), process, "the fault")
        figures["noticed_s"] = round(end_of(process, time.monotonic()), 1)
    found = why(root, folder)
    assert (found["cause"], found["rank"], found["message"]) == ("oom", 1, "MemoryError")
    assert any("hoard.append" in line for line in found["evidence"][0]["lines"])


CUDA_TEXT = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.21 GiB is "
    "free. Process 4711 has 77.90 GiB memory in use. Of the allocated memory 74.12 GiB is allocated by PyTorch, and "
    "2.31 GiB is reserved by PyTorch but unallocated."
)


@pytest.mark.fault(4)
def test_gpu_memory_by_the_words_of_torch(tmp_path: Path) -> None:
    """torch's own exception with its text, as a rank writes it down. On a GPU: tests/gpu/test_memory.py."""
    folder = make_run(tmp_path, gradient_checkpointing=False, global_batch_size=64, per_device_train_batch_size=8)
    attempt = begin(folder)
    record_failure(attempt.failure(1), torch.OutOfMemoryError(CUDA_TEXT), rank=1, node=0)
    end(folder, state=State.failed, reason="cuda_oom")
    found = why(tmp_path, folder)
    assert (found["cause"], found["rank"], found["again"]) == ("cuda_oom", 1, "never")
    changes = {change["key"]: (change["now"], change["to"]) for change in found["changes"]}
    assert changes["train.per_device_train_batch_size"] == ("8", "4")
    assert changes["train.gradient_checkpointing"] == ("false", "true")
    facts = [change["effect"] for change in found["changes"] if not change["key"]]
    assert any("predicted for a rank" in fact for fact in facts)
    assert "measured: 74.1 GiB allocated, 2.3 GiB reserved but free, 2.0 GiB more asked for" in " ".join(facts)
    assert found["commands"] == [f"muster resume {folder.path.name} --force train.per_device_train_batch_size=4"]


def read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


@pytest.mark.fault(1)
@pytest.mark.slurm
@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the other user's open files")
def test_on_slurm_it_goes_on_by_itself(person: Person, whole: RunFolder, figures: dict[str, Any]) -> None:
    """Two nodes: killed after a checkpoint, requeued, done in the second attempt, with the same bits."""
    overrides = [*TINY, "cluster=devcluster", "cluster.nodes=2", "cluster.ranks_per_node=1", "name=shot-exact"]
    folder, run_id = live.submit(person, person.home, *overrides)
    live.wait_for(lambda: folder.checkpoint(2 * EVERY).exists(), folder, "a checkpoint")
    at = time.time()
    os.kill(process_of(folder.attempt(0).rank_log(1, 1)), signal.SIGKILL)
    live.wait_for(lambda: live.decision(folder, 0), folder, "a decision")
    figures["noticed_s"] = round(max(report["ended"] for report in live_reports(folder)) - at, 1)
    assert live.decision(folder, 0) == "requeue"
    reached = steps_of(folder, 0)[-1]
    assert reached < STEPS, "it was killed too late"
    asked = time.time()
    live.start_now(person, live.job_of(folder), folder)
    live.wait_for_end(folder, "done")
    again = next(line for line in live.metrics(folder) if line["attempt"] == 1 and "train/loss" in line)
    figures["again_s"] = round(again["time"] - asked, 1)
    figures["steps_lost"] = reached - again["step"] + 1
    assert figures["noticed_s"] <= DOWN_S
    assert again["step"] > EVERY
    assert weights(folder) == weights(whole)
    found = json.loads(person.muster("why", run_id, "--attempt", "0", "--json", cwd=person.home))
    assert (found["cause"], found["rank"], found["node"]) == ("killed", 1, 1)
    assert found["host"] == found["attempts"][0]["hosts"][1]


def live_reports(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in folder.attempt(0).agent_reports.glob("*.json")]
