"""W&B that goes away while a run trains, and comes back for a push: the real SDK against a server that stands in."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conf.board import Board
from conf.estimate import Estimate, Moment, Need, Term
from conf.forecast import Forecast, Span
from conf.layout import EXPORT_RECORD, MANIFEST, RunFolder
from conf.metrics import merge_steps
from conf.outcome import Outcome, State, StopReason, read_stop, write_outcome
from conf.record import read_plan
from conf.schema import ArtifactFiles, LogModel, RunConfig, TrackingMode
from tests.dist.runs import write_plan
from tests.slurm.live import lines, outcome, process_of
from tests.wandb_server import KEY, WandbServer
from train.metrics.journal import Journal
from train.tracking.last_word import start_last_word
from train.tracking.sdk import Patience
from train.tracking.track import Tracker

pytestmark = [pytest.mark.faults, pytest.mark.fault(21), pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
STEPS = 12
EXIT_S = 90.0
"""Training ends at most 30 s after its last step for W&B's sake (`Patience.close_s`); the rest is Python's own."""
STEP_S = 0.02
"""A step of the smallest model on this kind of machine: what a line to W&B costs is held against it."""
TINY = [
    "experiment=demo",
    "name=tracked",
    "tracking=wandb",
    "tracking.mode=online",
    "cluster.ranks_per_node=1",
    "parallel=zero0",
    "train.precision=fp32",
    f"train.max_steps={STEPS}",
    "train.logging_steps=1",
    "train.eval_strategy=no",
    "train.eval_samples=0",
    "checkpoint.export=never",
]
SECRETS = {"HF_TOKEN": "hf_canary5f2d9c81canary5f2d", "AWS_SECRET_ACCESS_KEY": "canary7a8b9c0d1e2f"}
HOWS = [pytest.param(how, marks=pytest.mark.long) for how in ("hang", "closed", "unavailable", "slow")]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """The server, to which every process tracks that starts from here."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "MUSTER_SITE", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with WandbServer() as one:
        use(one, monkeypatch)
        yield one


def use(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**server.environment, **SECRETS}.items():
        monkeypatch.setenv(name, value)


def holds_canary(content: bytes) -> bool:
    return any(value.encode() in content for value in (KEY, *SECRETS.values()))


def muster(folder: Path, *words: str) -> str:
    argv = [sys.executable, str(ROOT / "muster.py"), *words]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("how", HOWS)
def test_a_server_that_fails_costs_no_run_and_a_push_completes(
    how: Any, server: WandbServer, tmp_path: Path, figures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.behave_once_open(how)
    muster(tmp_path, "run", *TINY)
    ended = time.time()
    (path,) = tmp_path.glob("runs/tracked-*")
    folder = RunFolder(path)
    trained = [line for line in lines(folder.metrics) if "train/loss" in line]
    assert [line["step"] for line in trained] == list(range(1, STEPS + 1))
    assert outcome(folder)["state"] == "done"
    assert len(server.runs) == 1
    figures["exit_s"] = round(ended - trained[-1]["time"], 1)
    assert figures["exit_s"] < EXIT_S

    with WandbServer() as second:
        use(second, monkeypatch)
        pushed = []
        for _ in range(2):
            assert f"{len(merge_steps(lines(folder.metrics)))} steps" in muster(tmp_path, "push", path.name)
            pushed.append(second.run(read_plan(folder.run_json).wandb_id).history)
    assert pushed[0] == pushed[1]
    assert not [path for path in path.rglob("*") if path.is_file() and holds_canary(path.read_bytes())]
    assert not holds_canary((server.traffic() + second.traffic()).encode())
    losses = {row["train/global_step"]: row["train/loss"] for row in pushed[1] if "train/loss" in row}
    assert losses == {line["step"]: line["train/loss"] for line in trained}


@pytest.mark.parametrize("how", ["hang", *HOWS[1:]])
def test_a_line_costs_the_step_nothing(how: Any, server: WandbServer, tmp_path: Path, figures: dict[str, Any]) -> None:
    """The training thread only appends to a file: within 5 % of the shortest step, whatever the server does."""
    folder, plan = write_plan(tmp_path / "run", tracked())
    server.behave_once_open(how)
    warnings: list[str] = []
    tracker = Tracker.open(plan, folder, 0, warnings.append, Patience(init_s=10, finish_s=2, close_s=5))
    assert tracker is not None
    journal, costs = Journal(folder, 0), []
    for step in range(1000):
        started = time.perf_counter()
        journal.metrics(step, {"train/loss": 1.0, "train/grad_norm": 1.0})
        costs.append(time.perf_counter() - started)
    figures["line_ms"] = round(1000 * statistics.mean(sorted(costs)[:-10]), 4)
    assert figures["line_ms"] < 1000 * 0.05 * STEP_S
    started = time.monotonic()
    tracker.close("done")
    assert time.monotonic() - started < 20


def test_a_push_puts_right_what_attempts_did_twice(server: WandbServer, tmp_path: Path) -> None:
    """While it follows, a second attempt makes step 2 again; in the end W&B has each step once, as it was last."""
    folder, plan = write_plan(tmp_path / "run", tracked())
    append(folder, *({"step": step, "attempt": 0, "time": 1.0, "train/loss": 1.0 / step} for step in (1, 2, 3)))
    argv = [sys.executable, "-m", "train", "push", str(folder.path), "--follow"]
    process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not (server.runs and len(server.run(plan.wandb_id).rows) >= 2):
        assert time.monotonic() < deadline, "nothing was sent while it follows"
        time.sleep(0.2)
    redone = [{"step": step, "attempt": 1, "time": 2.0, "train/loss": 10.0 + step} for step in (2, 3, 4)]
    append(folder, *redone, {"step": 4, "attempt": 1, "time": 2.0, "eval/loss": float(4), "train/grad_norm": "nan"})
    write_outcome(folder.outcome, Outcome(State.done, "all steps are done", 4, 1, 3.0, metrics={"eval/loss": 4.0}))
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    run = server.run(plan.wandb_id)
    rows = run.history
    assert [(row["train/global_step"], row["train/loss"]) for row in rows] == [(1, 1), (2, 12), (3, 13), (4, 14)]
    assert rows[-1]["eval/loss"] == 4
    assert rows[-1]["train/grad_norm"] != rows[-1]["train/grad_norm"]  # not a number
    assert (run.summary["state"], run.exit_code, run.display_name) == ("done", 0, plan.run_id)


def test_three_attempts_are_one_run_with_its_story_and_messages(server: WandbServer, tmp_path: Path) -> None:
    """Attempt 0 is preempted, attempt 1 hangs and cannot speak for itself, attempt 2 ends well."""
    folder, plan = write_plan(tmp_path / "run", tracked())
    hosts = ["alpha", "beta"]
    for attempt, steps in enumerate((range(1, 4), range(4, 6), range(5, 8))):
        journal = Journal(folder, attempt)
        journal.event("attempt_started", hosts=hosts)
        if attempt:
            journal.event("resumed", step=steps[0] - 1)
        tracker = Tracker.open(plan, folder, attempt, patience=Patience(close_s=60))
        assert tracker is not None
        for step in steps:
            journal.metrics(step, {"train/loss": 1.0 / step, "perf/step_time_s": 0.5})
        if attempt == 1:
            wait_for(lambda: any(row.get("train/global_step") == 5 for row in server.run(plan.wandb_id).rows))
            tracker.close("failed")  # its process dies; what follows is what its agent and `decide` write
            reason = f"rank 1 on beta did not come: {SECRETS['HF_TOKEN']}"
            journal.event("hang", rank=1, host="beta", reason=reason)
            failed = Outcome(State.failed, "hang: rank 1 on beta", 4, attempt, time.time())
            write_outcome(folder.outcome, failed)
            journal.event("attempt_ended", state="failed", reason=failed.reason)
            start_last_word([sys.executable, "-m", "train", "last-word", str(folder.path)], attempt, goes_on=True)
            assert [alert["title"] for alert in server.run(plan.wandb_id).alerts[1:]] == [f"{plan.run_id}: hang"]
            assert (server.run(plan.wandb_id).preempting, server.run(plan.wandb_id).summary["state"]) == (
                True,
                "failed",
            )
            continue
        state = State.done if attempt == 2 else State.preempted
        write_outcome(folder.outcome, Outcome(state, state.value, steps[-1], attempt, time.time()))
        journal.event("attempt_ended", state=state.value, reason=state.value)
        tracker.close(state.value)
        run = server.run(plan.wandb_id)
        assert (run.preempting, run.summary["state"], run.exit_code) == (True, state.value, int(attempt == 0))
    assert list(server.runs) == [f"muster/{plan.wandb_id}"]
    rows = [row for row in run.rows if "train/loss" in row]
    assert [row["train/global_step"] for row in rows] == [1, 2, 3, 4, 5, 5, 6, 7]
    assert [row["run/attempt"] for row in rows] == [0, 0, 0, 1, 1, 2, 2, 2]
    assert [row["_step"] for row in run.rows] == sorted({row["_step"] for row in run.rows})
    times = {line["step"]: line["time"] for line in lines(folder.metrics)}
    assert {row["train/global_step"]: row["_timestamp"] for row in rows} == times
    kinds = [alert["title"].partition(": ")[2] for alert in run.alerts]
    assert kinds == ["restart", "hang", "restart"]
    assert run.alerts[-1]["text"].endswith("on alpha, beta; before: failed: hang: rank 1 on beta")
    assert (run.summary["state"], run.summary["run/lost_steps"], run.exit_code) == ("done", 1, 0)
    assert not holds_canary(server.traffic().encode())


def test_the_config_has_all_that_decides_a_run(server: WandbServer, tmp_path: Path) -> None:
    config = tracked()
    config.cluster.env = {"HF_TOKEN": SECRETS["HF_TOKEN"]}
    folder, plan = write_plan(tmp_path / "run", config)
    need = Need([Moment("step", [Term("weights", 2 << 30, 1 << 30, 3 << 30)])])
    forecast = Forecast(Span(0.5, 1.0, 2.0), [], 1000.0, 1, "node", "this one")
    plan = replace(plan, memory=Estimate(None, need, None), time=forecast)
    expected = {f"mem/predicted_host_gib{end}": gib for end, gib in (("", 2.0), ("_low", 1.0), ("_high", 3.0))}
    expected |= {"perf/predicted_step_time_s": 1.0, "perf/predicted_tokens_per_second": 1000.0}
    facts = {"commit": "abc123", "versions": {"torch": "2.13.0"}, "cwd": f"/home/x?key={SECRETS['HF_TOKEN']}"}
    folder.env_json.write_text(json.dumps(facts))
    attempt = folder.attempt(0)
    attempt.folder.mkdir(parents=True)
    attempt.job.write_text(json.dumps({"job": "slurm:7", "host": "alpha", "time": 1, "token": "secret of the attempt"}))
    attempt.hosts.write_text("alpha\nbeta\n")
    tracker = Tracker.open(plan, folder, 0, patience=Patience(close_s=60))
    assert tracker is not None
    tracker.close("done")
    found = {name: held["value"] for name, held in server.run(plan.wandb_id).config.items() if name != "_wandb"}
    assert found["optim"]["learning_rate"] == plan.config.optim.learning_rate
    muster = found["muster"]
    assert muster["deepspeed"] == json.loads(json.dumps(plan.layout.deepspeed))
    assert (muster["environment"]["commit"], muster["environment"]["versions"]) == ("abc123", {"torch": "2.13.0"})
    assert muster["job"] == {"job": "slurm:7", "host": "alpha", "time": 1, "hosts": ["alpha", "beta"]}
    assert muster["batch"]["world_size"] == plan.topology.world_size
    assert muster["topology"]["start"] == plan.topology.start
    assert muster["predicted"] == expected
    assert expected.items() <= server.run(plan.wandb_id).summary.items()
    assert found["cluster"]["env"] == {"HF_TOKEN": "***"}
    assert not holds_canary(server.traffic().encode())


@pytest.mark.long
def test_the_stop_button_ends_a_real_run_saved(server: WandbServer, tmp_path: Path) -> None:
    """Pressed while it trains: the run saves, ends as stopped, says where it is, and goes on in the same W&B run."""
    words = [word for word in TINY if not word.startswith("train.max_steps=")]
    argv = [sys.executable, str(ROOT / "muster.py"), "run", *words, "train.max_steps=100000"]
    process = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: any(run.rows for run in server.runs.values()), 200)
    (run,) = server.runs.values()
    server.press_stop(run.name)
    said, _ = process.communicate(timeout=200)
    (path,) = tmp_path.glob("runs/tracked-*")
    folder = RunFolder(path)
    assert outcome(folder)["state"] == "stopped", said
    assert folder.manifest(outcome(folder)["step"]).exists()
    assert (run.summary["state"], run.exit_code) == ("stopped", 0)
    status = muster(tmp_path, "status", path.name)
    assert f"{server.url}/tester/muster/runs/{run.name}" in status
    run.stop = False  # as the service is expected to: not seen there
    more = outcome(folder)["step"] + 3
    muster(tmp_path, "resume", path.name, f"train.max_steps={more}", "--force")
    assert outcome(folder)["state"] == "done"
    assert len(server.runs) == 1
    steps = [row["train/global_step"] for row in run.rows if "train/loss" in row]
    assert steps == list(range(1, more + 1))


@pytest.mark.long
def test_a_killed_rank_is_told_by_the_job_s_last_word(server: WandbServer, tmp_path: Path) -> None:
    """Rank 0 has the tracker and is killed: the agent's process says what happened, and ends the run as failed."""
    words = [word for word in TINY if not word.startswith("train.max_steps=")]
    argv = [sys.executable, str(ROOT / "muster.py"), "run", *words, "train.max_steps=100000"]
    process = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: any(run.rows for run in server.runs.values()), 200)
    (run,) = server.runs.values()
    (path,) = tmp_path.glob("runs/tracked-*")
    folder = RunFolder(path)
    os.kill(process_of(folder.attempt(0).rank_log(0, 0)), signal.SIGKILL)
    said, _ = process.communicate(timeout=200)
    assert outcome(folder)["state"] == "failed", said
    assert [alert["title"] for alert in run.alerts] == [f"{path.name}: failed"]
    assert "killed by SIGKILL" in run.alerts[0]["text"]
    assert (run.summary["state"], run.exit_code, run.complete) == ("failed", 1, True)
    assert "run/goodput" in run.summary
    muster(tmp_path, "push", path.name)
    assert len(run.alerts) == 1  # told once, whoever mirrors it


def test_the_stop_button_writes_stop_and_interrupts_nobody(server: WandbServer, tmp_path: Path) -> None:
    folder, plan = write_plan(tmp_path / "run", tracked())
    tracker = Tracker.open(plan, folder, 0, patience=Patience(close_s=60))
    assert tracker is not None
    Journal(folder, 0).metrics(1, {"train/loss": 1.0})
    wait_for(lambda: bool(server.runs and server.run(plan.wandb_id).rows))
    assert read_stop(folder.stop) is None
    server.press_stop(plan.wandb_id)
    Journal(folder, 0).metrics(2, {"train/loss": 1.0})  # the answer to it carries the word
    wait_for(lambda: read_stop(folder.stop) is StopReason.stopped)
    tracker.close("stopped")
    assert server.run(plan.wandb_id).summary["state"] == "stopped"


@pytest.mark.parametrize("files", list(ArtifactFiles), ids=lambda files: files.value)
def test_models_are_artifacts_and_answers_tables(files: ArtifactFiles, server: WandbServer, tmp_path: Path) -> None:
    config = tracked()
    config.tracking.log_model, config.tracking.artifact, config.tracking.samples = LogModel.checkpoint, files, 2
    folder, plan = write_plan(tmp_path / "run", config)
    model, states = folder.export / "model.safetensors", folder.checkpoint(2) / "states.pt"
    for file, record in ((model, EXPORT_RECORD), (states, MANIFEST)):
        file.parent.mkdir(parents=True)
        file.write_bytes(f"the bytes of {file.name}".encode())
        (file.parent / record).write_text(json.dumps({"files": [{"name": file.name, "sha256": f"of {file.name}"}]}))
    folder.predictions("x").parent.mkdir()
    for split, answer in (("validation-before", "no"), ("validation", "yes")):
        rows = [{"document": number, "prediction": answer, "more": [number]} for number in range(3)]
        folder.predictions(split).write_text("".join(json.dumps(row) + "\n" for row in rows))
    journal = Journal(folder, 0)
    tracker = Tracker.open(plan, folder, 0, patience=Patience(close_s=60))
    assert tracker is not None
    journal.event("evaluation", split="validation", step=0, loss=2.0)
    journal.metrics(2, {"train/loss": 1.0})
    journal.event("checkpoint", step=2)
    wait_for(lambda: len(server.artifacts) >= 2)  # before the run ends: the checkpoint and the first table
    write_outcome(folder.outcome, Outcome(State.done, "all", 2, 0, time.time(), export_verified=True))
    tracker.close("done")
    found = {made.about["artifactCollectionName"]: made for made in server.artifacts if made.committed}
    tables = {name for name in found if "samplesvalidation" in name}
    assert set(found) - tables == {f"model-{plan.wandb_id}", f"checkpoint-{plan.wandb_id}"}
    for name, path, alias in (("model", model, "final_model"), ("checkpoint", states, "checkpoint_global_step_2")):
        made = found[f"{name}-{plan.wandb_id}"]
        assert alias in {given["alias"] for given in made.about["aliases"]}
        assert json.loads(made.about["metadata"])["files"] == {path.name: f"of {path.name}"}
        if files is ArtifactFiles.upload:
            assert made.files[path.name] == path.read_bytes()
        else:
            assert not made.files
            refs = {entry["ref"] for entry in made.manifest["contents"].values()}
            assert refs == {file.as_uri() for file in path.parent.iterdir()}
    answers = {
        name: json.loads(content)
        for made in server.artifacts
        for name, content in made.files.items()
        if name.endswith(".table.json")
    }
    assert {name: [row[1] for row in table["data"]] for name, table in answers.items()} == {
        "samples/validation/before.table.json": ["no", "no"],
        "samples/validation/after.table.json": ["yes", "yes"],
    }
    assert not (tmp_path / "home" / ".local").exists()  # nothing waits in a home folder


def test_a_dashboard_is_saved_once_and_then_changed(server: WandbServer, tmp_path: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    board = Board("demo", "muster", runs=["demo-1a2b3c4d"], metrics=["train/loss"], kept=str(tmp_path / "kept.json"))
    argv = [sys.executable, "-m", "train", "dashboard", "RUN"]
    said = []
    for more in ([], ["eval/loss"]):
        content = msgspec.json.encode(replace(board, metrics=[*board.metrics, *more]))
        done = subprocess.run(argv, cwd=ROOT, input=content, capture_output=True, check=False, timeout=200)
        assert done.returncode == 0, done.stderr.decode()
        said.append(done.stdout.decode())
    assert said[0] == said[1]
    assert f"report     {server.url}/tester/muster/reports/demo--" in said[0]
    assert sorted(view["type"] for view in server.views.values()) == ["project-view", "runs"]
    workspace = next(view for view in server.views.values() if view["type"] == "project-view")
    (section,) = [one for one in workspace["spec"]["section"]["panelBankConfig"]["sections"] if "Loss" in one["name"]]
    assert [panel["config"]["metrics"] for panel in section["panels"]] == [["train/loss"], ["eval/loss"]]


def wait_for(happened: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def tracked() -> RunConfig:
    config = RunConfig()
    config.tracking.mode = TrackingMode.online
    return config


def append(folder: RunFolder, *values: dict[str, Any]) -> None:
    with folder.metrics.open("a") as file:
        file.write("".join(json.dumps(value) + "\n" for value in values))
