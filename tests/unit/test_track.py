"""W&B with its real SDK: offline files that read back, servers that are away or hang, no secrets, nothing where off."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conf.files import read_objects
from conf.layout import RunFolder
from conf.record import Batch, Device, Layout, Plan, Topology
from conf.schema import LogModel, RunConfig, TrackingMode
from conf.schema import Tracker as TrackerName
from launcher.facts.facts import Facts
from launcher.render.job import script_environment
from launcher.sweep.tracked import tracked
from tests.wandb_server import WandbServer
from train.metrics.journal import Journal
from train.tracking.describe import run_arguments
from train.tracking.redaction import redacted
from train.tracking.sdk import Patience, require_server
from train.tracking.track import Tracker

KEY = "0123456789abcdef0123456789abcdef01234567"
BLOCK = 32768
CANARY = "canary-5f2d9c81"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    for name in (
        "WANDB_API_KEY",
        "WANDB_BASE_URL",
        "WANDB_MODE",
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run = RunFolder(tmp_path / "demo-1a2b3c4d")
    run.path.mkdir()
    return run


def plan(folder: RunFolder, name: TrackerName = TrackerName.wandb, mode: TrackingMode = TrackingMode.offline) -> Plan:
    config = RunConfig()
    config.tracking.name, config.tracking.mode = name, mode
    config.tracking.tags = ["a tag"]
    config.cluster.env = {"HF_TOKEN": CANARY, "NCCL_DEBUG": "INFO"}
    config.cluster.setup = [f"export MY_API_KEY={CANARY}", "ulimit -l unlimited"]
    layout = Layout(Batch(1, 16, 4, 4), {})
    return Plan(
        run_id=folder.path.name,
        run_dir=str(folder.path),
        config=config,
        topology=Topology(1, 1, Device.cpu, "fork", 1),
        layouts={1: layout},
        model_type="llama",
        parameters=1,
        packing="exact",
        export_at_end=True,
        expected_steps=3,
    )


def records(folder: RunFolder) -> list[Any]:
    """What is in the run's .wandb file: protobuf messages in LevelDB's log format, after a header of 7 bytes.

    https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.wandb.glob("offline-run-*/*.wandb")
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    found, message, place = [], b"", 7
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        message += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            found.append(record)
            message = b""
    return found


def history(found: list[Any]) -> list[dict[str, Any]]:
    rows = []
    for record in found:
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            rows.append(items)
    return rows


def inspected(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    """The records of a kind in the run's .wandb file, as W&B's own reader prints them."""
    (path,) = folder.wandb.glob("offline-run-*/*.wandb")
    argv = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=100)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [line[kind] for line in lines if line["type"] == kind]


def log_three(folder: RunFolder) -> None:
    journal = Journal(folder, 0)
    for step in (1, 2, 3):
        journal.metrics(step, {"train/loss": 1.0 / step, "train/grad_norm": float("nan")})


def test_an_offline_run_reads_back_complete_and_without_secrets(folder: RunFolder) -> None:
    warnings: list[str] = []
    tracker = Tracker.open(plan(folder), folder, 0, warnings.append)
    log_three(folder)
    assert tracker is not None
    tracker.close("done")
    assert warnings == []
    found = records(folder)
    rows = history(found)
    assert [row["train/global_step"] for row in rows] == [1, 2, 3]
    assert [row["train/loss"] for row in rows] == [1.0, 0.5, 1 / 3]
    (run,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    assert (run.run_id, run.project, list(run.tags)) == (plan(folder).wandb_id, "muster", ["a tag"])
    assert (run.display_name, run.run_group, run.job_type) == ("demo-1a2b3c4d", "", "train")
    config = {update.key: json.loads(update.value_json) for update in run.config.update}
    assert config["optim"]["learning_rate"] == 1e-5
    assert config["cluster"]["env"] == {"HF_TOKEN": "***", "NCCL_DEBUG": "INFO"}
    told = [record["item"] for record in inspected(folder, "history")]
    assert [(row["train/global_step"], row["train/loss"]) for row in told] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert [row["_timestamp"] for row in told] == [line["time"] for line in read_objects(folder.metrics)]
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_a_checkpoint_that_goes_while_it_is_sent_is_passed_by(folder: RunFolder) -> None:
    models = plan(folder)
    models.config.tracking.log_model = LogModel.checkpoint
    folder.checkpoint(2).mkdir(parents=True)
    folder.manifest(2).write_text("{}")
    (folder.checkpoint(2) / "a.pt").symlink_to("gone")  # is listed, and cannot be opened
    warnings: list[str] = []
    tracker = Tracker.open(models, folder, 0, warnings.append)
    Journal(folder, 0).event("checkpoint", step=2)
    log_three(folder)
    assert tracker is not None
    tracker.close("done")
    (warning,) = warnings
    assert "the checkpoint of step 2 is not sent to W&B: FileNotFoundError" in warning
    assert [row["train/global_step"] for row in history(records(folder))] == [1, 2, 3]


def test_a_point_of_a_sweep_is_found_by_its_group_and_its_own_overrides(folder: RunFolder) -> None:
    point = plan(folder)
    alone = point.config.tracking
    tracking = tracked(point.config, "demo-99887766", ["optim.learning_rate=1e-5", "train.seed=2"]).tracking
    assert (alone.group, alone.run_name) == (None, None)
    tracker = Tracker.open(replace(point, config=replace(point.config, tracking=tracking)), folder, 0)
    log_three(folder)
    assert tracker is not None
    tracker.close("done")
    (run,) = [record.run for record in records(folder) if record.WhichOneof("record_type") == "run"]
    assert (run.run_group, run.display_name) == ("demo-99887766", "optim.learning_rate=1e-5 train.seed=2")
    assert (run.run_id, list(run.tags), run.job_type) == (point.wandb_id, ["a tag"], "train")


def test_runs_of_several_folders_are_several_on_w_and_b(folder: RunFolder) -> None:
    """The same command of a colleague or in a second run_root; a program of one's own is told the same id as W&B."""
    own = plan(folder)
    other = replace(own, run_dir=f"/home/ada{own.run_dir}")
    assert (own.run_id, own.wandb_id) == (other.run_id, replace(own).wandb_id)
    assert own.wandb_id != other.wandb_id
    for one in (own, other):
        assert re.fullmatch(rf"{one.run_id}-[0-9a-f]{{6}}", one.wandb_id)
        told = script_environment(one, Facts(run_root="/", cwd="/", python="python3", cpu_count=1))
        assert told["WANDB_RUN_ID"] == run_arguments(one, folder, 0)["id"] == one.wandb_id


def test_a_dead_server_becomes_an_offline_run(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        warnings: list[str] = []
        tracker = Tracker.open(plan(folder, mode=TrackingMode.online), folder, 0, warnings.append)
        log_three(folder)
        assert tracker is not None
        tracker.close("preempted")
    assert len(warnings) == 1
    assert "tracked offline" in warnings[0]
    assert [row["train/global_step"] for row in history(records(folder))] == [1, 2, 3]
    assert not [path for path in folder.path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_a_server_that_never_answers_holds_nobody(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        warnings: list[str] = []
        patience = Patience(reach_s=1, init_s=3, finish_s=3, close_s=60)
        tracker = Tracker.open(plan(folder, mode=TrackingMode.online), folder, 0, warnings.append, patience)
        log_three(folder)
        assert tracker is not None
        tracker.close("done")
    assert len(warnings) == 1
    assert "tracked offline" in warnings[0]
    assert [row["train/loss"] for row in history(records(folder))] == [1.0, 0.5, 1 / 3]


def test_closing_does_not_wait_for_ever(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        warnings: list[str] = []
        patience = Patience(reach_s=1, init_s=30, finish_s=3, close_s=0.1)
        tracker = Tracker.open(plan(folder, mode=TrackingMode.online), folder, 0, warnings.append, patience)
        assert tracker is not None
        tracker.close("done")
        assert any("did not finish within" in text for text in warnings)


def test_a_run_goes_to_the_server_of_the_login(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `wandb login --host=…` writes down, without a variable."""
    with WandbServer() as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        settings = folder.path.parent / "home" / ".config" / "wandb" / "settings"
        settings.parent.mkdir(parents=True)
        settings.write_text(f"[default]\nbase_url = {server.url}\n")
        warnings: list[str] = []
        online = plan(folder, mode=TrackingMode.online)
        tracker = Tracker.open(online, folder, 0, warnings.append, Patience(close_s=60))
        log_three(folder)
        assert tracker is not None
        tracker.close("done")
    assert warnings == []
    assert [row["train/loss"] for row in server.run(online.wandb_id).history] == [1.0, 0.5, 1 / 3]


def test_no_key_is_said_before_wandb_could_ask_for_one(folder: RunFolder) -> None:
    with pytest.raises(RuntimeError, match=r"no API key for api\.example\.com"):
        require_server("https://api.example.com", {}, 1)


def test_tracking_none_imports_nothing(folder: RunFolder) -> None:
    assert Tracker.open(plan(folder, TrackerName.none), folder, 0) is None
    code = "import sys, train.tracking.track; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"HF_TOKEN": "x", "tokenizer_vocab_size": 512}, {"HF_TOKEN": "***", "tokenizer_vocab_size": 512}),
        ({"token": None, "max_tokens": 5, "password": ""}, {"token": None, "max_tokens": 5, "password": ""}),
        (["export A_SECRET='a b' B=2"], ["export A_SECRET=*** B=2"]),
        ("https://me:pass@host/x", "https://***@host/x"),
        (f"curl -H {CANARY}", "curl -H ***"),
        ("curl -H 'Authorization: Bearer abcdef' x", "curl -H 'Authorization: *** x"),
        ("authorization=basic YTpi x", "authorization=*** x"),
        ("the header was Bearer abcdef, said it", "the header was Bearer *** said it"),
        ({"Authorization": "Bearer abcdef"}, {"Authorization": "***"}),
        ("login --token hf_abcdef --add", "login --token *** --add"),
        ("serve --api-key=abc --hf-token 'a b' x", "serve --api-key=*** --hf-token *** x"),
        ('{"access_token": "abc", "a": 1}', '{"access_token": ***, "a": 1}'),
        (
            "accessToken: abc MY_TOKEN_2=abc token2=abc secretkey=abc",
            "accessToken: *** MY_TOKEN_2=*** token2=*** secretkey=***",
        ),
        (
            "max_tokens=512 author=me --max-tokens 5 tokenizer: x",
            "max_tokens=512 author=me --max-tokens 5 tokenizer: x",
        ),
        ("a token of the text", "a token of the text"),
        (
            {"kwargs": {"auth": "y", "list": [1, {"api_key": "z"}]}},
            {"kwargs": {"auth": "***", "list": [1, {"api_key": "***"}]}},
        ),
    ],
    ids=[
        "names",
        "empty",
        "assignment",
        "url",
        "value",
        "bearer",
        "basic",
        "alone",
        "header",
        "flag",
        "flags",
        "json",
        "words",
        "others",
        "text",
        "nested",
    ],
)
def test_secrets_are_taken_out(value: Any, expected: Any) -> None:
    assert redacted(value, {"SOME_TOKEN": CANARY, "SHORT_TOKEN": "me"}) == expected
