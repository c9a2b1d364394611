"""What people, disks and other people can put into names, overrides, paths, data, checkpoints and job files: generated.

Whatever comes, it is taken as data or refused in words; nothing of it runs, and no file is read that was not verified.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import string
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conf.layout import RunFolder
from conf.outcome import Outcome, read_outcome
from conf.record import read_plan
from launcher.check.check import check
from launcher.compose.compose import compose
from launcher.facts.data import look_at, resolve_data_path
from launcher.plan.content import run_id
from launcher.problems import MusterError
from launcher.runs.read import read_lines
from slurm.scripts import read_body
from tests.unit.test_checks import BASE, FACTS, config_of
from train.checkpoint.manifest import BadCheckpointError, Manifest, entries, verify_part, write_manifest
from train.checkpoint.stock import checked_manifest
from train.checkpoint.storage import WrittenFile, hashed_file, sha256_of

SHELL = ["$(touch pwned)", "`touch pwned`", ";touch pwned;", "${HOME}"]
SIGNS = ["\n", "\0", "'", '"', "\\", "%j", "../", "é", "#", "=", ",", " "]
HOSTILE = st.lists(st.sampled_from([*SHELL, *SIGNS, *string.ascii_letters[:6]]), max_size=12).map("".join)
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(FEW, max_examples=200)


@MANY
@given(name=HOSTILE)
@example(name="a" * 300)
@example(name="..")
@example(name="a\n")
def test_a_name_is_refused_or_one_plain_part_of_a_path(name: str) -> None:
    config = config_of(BASE, name=name)
    problems = [problem for problem in check(config, FACTS) if problem.key == "name"]
    if problems:
        return
    assert PurePosixPath(run_id(config)).name == run_id(config)
    assert set(run_id(config)) <= set(string.ascii_letters + string.digits + "._-")
    assert not run_id(config).startswith((".", "-"))


@FEW
@given(key=st.sampled_from(["name", "data.train_file", "cluster.env", "optim.learning_rate", "x", ""]), value=HOSTILE)
@example(key="hydra.run.dir", value="../x")
@example(key="+x", value="{_target_: os.system, command: touch pwned}")
@example(key="cluster.env", value="{A: '${oc.env:SOME_TOKEN}'}")
@example(key="tracking.run_name", value="${oc.env:SOME_TOKEN}")
def test_an_override_is_taken_or_explained(
    key: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_TOKEN", "canary-in-the-environment")
    try:
        config = compose([*BASE, f"{key}={value}"])
    except MusterError:
        pass
    else:
        assert "canary-in-the-environment" not in str(config)
    assert list(tmp_path.iterdir()) == []


@MANY
@given(given_path=HOSTILE)
def test_a_path_is_looked_at_and_no_more(given_path: str, tmp_path: Path) -> None:
    path = resolve_data_path(given_path, tmp_path, tmp_path)
    found = look_at("data.train_file", given_path, path)
    assert found.error
    assert list(tmp_path.iterdir()) == []


@MANY
@given(
    content=st.binary(max_size=200) | st.text(max_size=100).map(str.encode),
    suffix=st.sampled_from([".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz"]),
)
@example(content=b"[" * 100_000, suffix=".jsonl")
@example(content=b"[" * 100_000, suffix=".json")
@example(content=b'{"a": 1e999, "a": NaN}\n', suffix=".jsonl")
@example(content=b'{"prompt": "\\ud800", "response": "a"}\n', suffix=".jsonl")
def test_a_file_of_anything_is_described(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    path.write_bytes(content)
    found = look_at("data.train_file", path.name, path)
    assert found.error or found.rows is None or found.rows >= 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["schema_version", "config", "x"]), inner)
    ),
    max_leaves=8,
)


@MANY
@given(content=st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
@example(content=b"[" * 100_000)
@example(content=b'{"schema_version": 1}')
def test_files_of_a_run_are_read_or_refused(content: bytes, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for path in (folder.run_json, folder.outcome, folder.metrics):
        path.write_bytes(content)
    with contextlib.suppress(ValueError):
        raise AssertionError(read_plan(folder.run_json))
    with contextlib.suppress(ValueError):
        assert isinstance(read_outcome(folder.outcome), Outcome)
    assert all(isinstance(line, dict) for line in read_lines(folder.metrics))


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, Manifest]:
    """A checkpoint of two small files, with a neighbour that it does not own."""
    folder = tmp_path / "step-00000007"
    (folder / "states").mkdir(parents=True)
    (tmp_path / "outside.pt").write_bytes(b"outside")
    written = []
    for name in ("states/a.pt", "states/b.pt"):
        with hashed_file(folder / name) as file:
            file.write(name.encode() * 9)
        written.append([WrittenFile(name, file.size, file.sha256)])
    return folder, Manifest(7, 2, 3, "demo-1a2b3c4d", "1a2b3c4d", 0, 0.0, "2", "0", {}, entries(written))


NAMES = ["../outside.pt", "/etc/passwd", "states/../../outside.pt", "states", ".", "", "states/a.pt\0", "a" * 64]
VALUES = st.none() | st.integers(-2, 2**70) | st.text(max_size=4) | st.sampled_from(NAMES)
CHANGE = st.tuples(st.integers(0, 1), st.sampled_from(["name", "size", "sha256", "rank"]), VALUES)


@MANY
@given(changes=st.lists(CHANGE, max_size=3), flip=st.integers(0, 98), touched=st.booleans())
def test_a_checkpoint_verifies_only_with_files_of_its_own_as_they_were_written(
    changes: list[tuple[int, str, Any]], flip: int, touched: bool, checkpoint: tuple[Path, Manifest]
) -> None:
    folder, manifest = checkpoint
    content = msgspec.to_builtins(manifest)
    for place, key, value in changes:
        content["files"][place][key] = value
    write_manifest(folder, manifest)
    (folder / "manifest.json").write_text(json.dumps(content))
    original = (folder / "states" / "a.pt").read_bytes()
    if touched:
        damaged = bytearray(original)
        damaged[flip] ^= 1
        (folder / "states" / "a.pt").write_bytes(damaged)
    try:
        found, reason = checked_manifest(folder)
        if found is None:
            assert reason
            return
        for rank in range(found.world_size):
            with contextlib.suppress(BadCheckpointError):
                verify_part(folder, found, rank, found.world_size)
                own = [entry for entry in found.files if entry.rank % found.world_size == rank]
                for entry in own:
                    assert (folder / entry.name).resolve().is_relative_to(folder)
                    assert sha256_of(folder / entry.name) == (entry.size, entry.sha256)
    finally:
        (folder / "states" / "a.pt").write_bytes(original)


PROGRAM = """#!/bin/bash
env -0 >"$5/seen"
"""


@settings(FEW, max_examples=25)
@given(
    value=st.text(st.characters(codec="utf-8", exclude_characters="\n\0\r"), max_size=30) | HOSTILE,
    setting=HOSTILE,
    name=st.sampled_from(["requeue", "max_requeues", "port", "host_suffix", "extensions", "x[$(touch pwned)]"]),
)
@example(value="$(touch pwned)", setting="x[$(touch pwned)]", name="port")
@example(value="a", setting="1+$(touch pwned)", name="max_requeues")
def test_job_files_are_data_for_the_shell(
    value: str, setting: str, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Values of job/env reach Python as they are; those of job/settings are never evaluated."""
    folder = RunFolder(tmp_path_factory.mktemp("run") / "it's %j $(touch pwned)")
    config = config_of(BASE, cluster__env={"VALUE": value})
    if check(config, FACTS):
        return
    files = {
        folder.job.body: read_body().decode(),
        folder.job.python: f"{folder.path}/program\n",
        folder.job.settings: f"scratch={folder.path}/scratch\n{name}={setting}\n",
        folder.job.env: f"VALUE={value}\n",
        folder.job.allow: f"{name}\n{setting}\n",
        folder.path / "program": PROGRAM,
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder.path / "program").chmod(0o755)
    argv = ["bash", str(folder.job.body), "local", str(folder.path)]
    done = subprocess.run(argv, env={"PATH": "/usr/bin:/bin"}, cwd=folder.path, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = (folder.path / "seen").read_bytes().split(b"\0")
    assert b"VALUE=" + value.encode() in seen
    assert not [place for place, _, names in os.walk(folder.path.parent) if "pwned" in names]


def numbers_of(part: Any, before: str = "") -> Iterator[str]:
    """Dotted keys of a configuration's floats."""
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            yield from numbers_of(value, f"{before}{field.name}.")
        elif "float" in str(field.type) and not isinstance(value, dict):
            yield f"{before}{field.name}"


@pytest.mark.parametrize("key", numbers_of(config_of(BASE)))
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e308, -1e308])
def test_numbers_without_measure_are_refused_by_their_key_or_hold(key: str, value: float) -> None:
    problems = check(config_of(BASE, **{key.replace(".", "__"): value}), FACTS)
    if not math.isfinite(value):
        assert key in [problem.key for problem in problems]
