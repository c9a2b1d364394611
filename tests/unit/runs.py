"""Run folders for tests: made by `rundir.create` from a plan, then filled with files as ranks and agents write them."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import msgspec

from conf.files import write_atomically
from conf.layout import Attempt, RunFolder
from conf.outcome import AgentReport, Failure, Outcome, write_outcome
from conf.schema import ClusterConfig, ClusterKind, DataConfig, ModelConfig, ModelInit, RunConfig, TrainConfig
from launcher.facts.facts import CodeFacts, Facts, ModelFacts
from launcher.plan.plan import make_plan
from launcher.render.artifacts import render
from launcher.runs import rundir
from slurm.scripts import read_body

SHAPE = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}


def make_run(root: Path, name: str = "demo", kind: ClusterKind = ClusterKind.local, **train: Any) -> RunFolder:
    """A fresh run folder in `root`, exactly as `run` and `submit` make it."""
    config = RunConfig(
        name=name,
        run_root=str(root),
        model=ModelConfig(init=ModelInit.random, shape=SHAPE, tokenizer_name_or_path="train"),
        data=DataConfig(train_file=str(root / "train.jsonl"), max_length=128),
        train=TrainConfig(**{"max_steps": 100, "global_batch_size": 8, **train}),
        cluster=ClusterConfig(kind=kind, nodes=1, ranks_per_node=2),
    )
    facts = Facts(
        run_root=str(root),
        cwd=str(root),
        python="python3",
        cpu_count=2,
        model=ModelFacts(config=SHAPE),
        code=CodeFacts(muster=b"zip", body=read_body()),
    )
    plan = make_plan(config, facts)
    return rundir.create(plan, render(plan, facts))


def write_job(folder: RunFolder, program: str, content: dict[Path, str]) -> RunFolder:
    """A run folder with the real job script, and `program` in place of the nodes' Python."""
    stand_in = folder.path / "program"
    own = {folder.job.body: read_body().decode(), folder.job.python: f"{stand_in}\n", stand_in: program}
    for path, text in (own | content).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    stand_in.chmod(0o755)
    return folder


def begin(folder: RunFolder, number: int = 0, job: str = "local:1", pid: int = 1, host: str | None = None) -> Attempt:
    """What body.sh makes when an attempt begins."""
    attempt = folder.attempt(number)
    for path in (attempt.logs, attempt.failures, attempt.agent_reports):
        path.mkdir(parents=True)
    job_id = job.partition(":")[2]
    record = {"job": job, "job_id": job_id, "host": host or socket.gethostname(), "pid": pid, "time": time.time()}
    attempt.job.write_text(json.dumps(record | {"attempt": number}))
    return attempt


def end(folder: RunFolder, **outcome: Any) -> None:
    """Write the outcome of an attempt."""
    write_outcome(folder.outcome, Outcome(**{"reason": "", "step": 0, "attempt": 0, "time": time.time(), **outcome}))


def append(path: Path, *lines: dict[str, Any]) -> None:
    """Append lines to metrics.jsonl, events.jsonl or samples.jsonl."""
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def metrics(step: int, loss: float, attempt: int = 0, seconds: float = 1.0, **more: Any) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    at = 1_790_000_000 + step * seconds
    return {"step": step, "attempt": attempt, "time": at, "train/loss": loss, "train/learning_rate": 1e-3} | more


def write_failure(attempt: Attempt, failure: Failure) -> None:
    """A rank's own word on why it failed."""
    write_atomically(attempt.failure(failure.rank), msgspec.json.encode(failure))


def write_report(attempt: Attempt, report: AgentReport) -> None:
    """What a node's agent saw."""
    write_atomically(attempt.agent_report(report.node), msgspec.json.encode(report))
