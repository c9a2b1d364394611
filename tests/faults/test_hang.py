"""Rows 7 and 8: ranks that hang or are slow, on the real command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from tests.slurm.live import (
    decision,
    job_of,
    lines,
    metrics,
    outcome,
    process_of,
    start_now,
    submit,
    wait_for,
    wait_for_step,
)
from tests.slurm.person import Person

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

LIMIT_S = 5.0
PATIENCE_S = 240.0
WATCHED = [
    f"health.limits_s.train={LIMIT_S}",
    "health.limits_s.first_step=200",
    "health.limits_s.save=20",
    "health.step_factor=3",
    "train.eval_strategy=no",
    "tracking=none",
]
FAIR_STEPS = 40
STEP_S = 0.15
FLAG = "sleep now"
LOCAL = ["experiment=demo", *WATCHED, "train.max_steps=5000"]
CODE = """
import os, time
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

class Own(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        if Path({flag!r}).exists() and os.environ["RANK"] == "1":
            time.sleep(float(Path({flag!r}).read_text()))
        return super().forward(*args, **kwargs)
"""


@contextlib.contextmanager
def running(work: Path, *words: str) -> Iterator[RunFolder]:
    """`muster run` on this machine, until the block ends."""
    argv = [sys.executable, "-m", "muster", "run", *words, f"run_root={work / 'runs'}"]
    with (work / "output").open("wb") as output:
        process = subprocess.Popen(argv, cwd=work, stdout=output, stderr=output, start_new_session=True)
    try:
        await_true(
            lambda: process.poll() is not None or any((work / "runs").glob("*/metrics.jsonl")), work, "the first step"
        )
        assert process.poll() is None, (work / "output").read_text()
        yield RunFolder(next((work / "runs").glob("*/metrics.jsonl")).parent)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def await_true(seen: Callable[[], object], work: Path, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not seen():
        assert time.monotonic() < deadline, f"{what} did not come\n{(work / 'output').read_text()[-3000:]}"
        time.sleep(0.1)


def last_step(folder: RunFolder) -> int:
    return max((int(line["step"]) for line in metrics(folder)), default=0)


def events(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [line for line in lines(folder.events) if line["event"] == kind]


def check_hang(folder: RunFolder, rank: int, begun: float, figures: dict[str, Any]) -> dict[str, Any]:
    """What every hang has to leave behind; its failure."""
    stands = outcome(folder)
    failure: dict[str, Any] = stands["failure"]
    assert (stands["state"], failure["cause"], failure["rank"]) == ("failed", "hang", rank)
    attempt = folder.attempt(stands["attempt"])
    kept = sorted(attempt.stacks.glob("node*-rank?.txt"))
    assert len(kept) == 2
    assert all("most recent call first" in path.read_text() for path in kept)
    head = json.loads(kept[rank].read_text().splitlines()[0])
    (event,) = events(folder, "hang")
    figures["noticed_s"] = round(event["time"] - begun, 1)
    figures["limit_s"] = head["limit_s"]
    assert event["time"] - begun <= head["limit_s"] + 10
    return failure


@pytest.mark.fault(7)
def test_a_stopped_rank(tmp_path: Path, figures: dict[str, Any]) -> None:
    with running(tmp_path, *LOCAL, "name=stopped") as folder:
        await_true(lambda: last_step(folder) >= 5, tmp_path, "step 5")
        begun = time.time()
        os.kill(process_of(folder.attempt(0).rank_log(0, 1)), signal.SIGSTOP)
        await_true(lambda: outcome(folder), tmp_path, "an outcome")
        failure = check_hang(folder, 1, begun, figures)
    assert "its process is stopped (SIGSTOP or a debugger)" in failure["message"]
    assert "File " in failure["traceback"]


@pytest.mark.fault(7)
def test_a_rank_that_sleeps_in_a_step(tmp_path: Path, figures: dict[str, Any]) -> None:
    """It does not come back from its forward pass."""
    with running(tmp_path, *with_own_model(tmp_path), "name=sleeps") as folder:
        await_true(lambda: last_step(folder) >= 5, tmp_path, "step 5")
        begun = time.time()
        sleep_from_now(tmp_path, 3600)
        await_true(lambda: outcome(folder), tmp_path, "an outcome")
        failure = check_hang(folder, 1, begun, figures)
    assert "rank 0 waits, rank 1 did not come" in failure["message"]
    assert "modeling_own.py" in failure["message"]
    assert "modeling_own.py" in failure["traceback"]


def with_own_model(work: Path) -> list[str]:
    """Words that train a model with code of its own, whose forward pass sleeps on rank 1 (`sleep_from_now`)."""
    write_own_model(work / "model", CODE.format(flag=str(work / FLAG)))
    return [
        *WATCHED,
        "model=hf",
        f"model.model_name_or_path={work / 'model'}",
        "model.trust_remote_code=true",
        "data=demo",
        "parallel=zero1",
        "cluster.ranks_per_node=2",
        "cluster.gpus_per_node=0",
        "train.max_steps=5000",
        "train.precision=fp32",
        "data.packing=none",
    ]


def sleep_from_now(work: Path, seconds: float) -> None:
    """Rank 1 sleeps so long in each forward pass; the file has its content with its name."""
    (work / "beside").write_text(str(seconds))
    (work / "beside").rename(work / FLAG)


def write_own_model(folder: Path, code: str) -> None:
    """A small random model whose class is the person's own."""
    program = (
        "import sys; from transformers import ByT5Tokenizer, LlamaConfig, LlamaForCausalLM\n"
        "config = LlamaConfig(vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=2,"
        " num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=1, pad_token_id=0)\n"
        "config.auto_map = {'AutoModelForCausalLM': 'modeling_own.Own'}\n"
        "model = LlamaForCausalLM(config); model.config.architectures = ['Own']; model.save_pretrained(sys.argv[1])\n"
        "ByT5Tokenizer().save_pretrained(sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, capture_output=True)
    (folder / "modeling_own.py").write_text(code)


@pytest.mark.fault(7)
@pytest.mark.long
def test_ranks_that_wait_for_their_data(tmp_path: Path, figures: dict[str, Any]) -> None:
    """The shards of a stream become named pipes that nobody writes: opening one waits for ever."""
    shards = tmp_path / "shards"
    shards.mkdir()
    for part in range(40):
        rows = [json.dumps({"text": f"{part} {number} and so on"}) for number in range(64)]
        (shards / f"{part}.jsonl").write_text("\n".join(rows) + "\n")
    words = ["data.streaming=true", f"data.train_file={shards}", "data.shuffle_buffer=64", "train.eval_samples=0"]
    words += ["data.validation_file=null"]
    with running(tmp_path, *LOCAL, *words, "name=starves") as folder:
        await_true(lambda: last_step(folder) >= 3, tmp_path, "step 3")
        for file in shards.iterdir():
            os.mkfifo(tmp_path / "pipe")
            (tmp_path / "pipe").replace(file)
        await_true(lambda: outcome(folder), tmp_path, "an outcome")
        begun = metrics(folder)[-1]["time"]
        failure = check_hang(folder, outcome(folder)["failure"]["rank"], begun, figures)
    assert "it waits for its data" in failure["message"]


@pytest.mark.fault(7)
@pytest.mark.slurm
@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the other user's open files")
def test_a_stopped_rank_on_slurm(person: Person, figures: dict[str, Any]) -> None:
    """Noticed by the node's agent, heard of by the other, requeued, gone on from the newest checkpoint."""
    words = [
        "experiment=demo",
        *WATCHED,
        "cluster=devcluster",
        "cluster.nodes=2",
        "cluster.ranks_per_node=1",
        "cluster.requeue=true",
        "checkpoint.save_steps=4",
        "train.max_steps=5000",
        "name=hangs",
    ]
    folder, _ = submit(person, person.home, *words)
    wait_for(lambda: folder.checkpoint(8).exists(), folder, "a checkpoint")
    begun = time.time()
    os.kill(process_of(folder.attempt(0).rank_log(1, 1)), signal.SIGSTOP)
    wait_for(lambda: decision(folder, 0), folder, "a decision")
    assert decision(folder, 0) == "requeue"
    failure = check_hang(folder, 1, begun, figures)
    assert failure["node"] == 1
    # Not by the events: a checkpoint is there before all ranks know of it.
    saved = max(int(path.name.removeprefix("step-")) for path in folder.checkpoints.glob("step-*"))
    reached = last_step(folder)
    start_now(person, job_of(folder), folder)
    wait_for_step(folder, saved + 1, attempt=1)
    again = next(line for line in metrics(folder) if line["attempt"] == 1)
    assert again["step"] == saved + 1
    (started,) = [line["time"] for line in events(folder, "attempt_started") if line["attempt"] == 1]
    figures["again_s"] = round(again["time"] - started, 1)
    figures["steps_lost"] = reached - saved
    person.run("scancel", str(job_of(folder)))


@pytest.mark.fault(8)
def test_a_slow_rank_is_named_and_lives(tmp_path: Path, figures: dict[str, Any]) -> None:
    """Nobody is named while nobody is slow; then rank 1 sleeps in each forward pass, at least as long as a step took.

    Steps are compared over two seconds: in fewer than 50 only where steps are not of milliseconds.
    """
    with running(tmp_path, *with_own_model(tmp_path), "name=slow", "health.watchdog=false") as folder:
        await_true(lambda: last_step(folder) >= FAIR_STEPS, tmp_path, f"step {FAIR_STEPS}")
        assert stragglers(folder) == []
        begun = metrics(folder)[-1]
        sleep_from_now(tmp_path, max(begun["perf/step_time_s"], STEP_S))
        await_true(lambda: stragglers(folder), tmp_path, "a warning")
        (warning,) = stragglers(folder)
        await_true(lambda: len(after(folder, warning["time"])) >= 3, tmp_path, "three more steps")
        named = after(folder, warning["time"])[0]
        assert len(stragglers(folder)) == 1
    assert warning["rank"] == 1
    assert warning["host"] in warning["text"]
    assert warning["factor"] >= 1.5
    steps = named - begun["step"]
    figures |= {"steps_to_notice": steps, "factor": warning["factor"]}
    figures["noticed_s"] = round(warning["time"] - begun["time"], 1)
    assert steps <= 50
    assert max(line.get("health/straggler_factor", 0.0) for line in metrics(folder)) >= 1.5


def after(folder: RunFolder, moment: float) -> list[int]:
    """The steps whose lines were written since."""
    return [line["step"] for line in metrics(folder) if line["time"] >= moment]


def stragglers(folder: RunFolder) -> list[dict[str, Any]]:
    return [event for event in events(folder, "warning") if event.get("about") == "straggler"]
