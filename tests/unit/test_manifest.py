"""Manifests accept what was written and refuse anything else in words; storage hashes and keeps errors back."""

from __future__ import annotations

import errno
import hashlib
import io
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conf.layout import RunFolder
from train.checkpoint.engine_files import EngineFiles, WrittenNow
from train.checkpoint.manifest import (
    BadCheckpointError,
    Entry,
    Manifest,
    entries,
    read_manifest,
    verify_part,
    verify_sizes,
    write_manifest,
)
from train.checkpoint.stock import list_checkpoints, prune
from train.checkpoint.storage import HashingFile, WrittenFile, hashed_file, sha256_of

CONTENT = {"states/a.pt": b"first" * 1000, "states/b.pt": b"second" * 1000}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    (tmp_path / "states").mkdir()
    files = []
    for name, content in CONTENT.items():
        with hashed_file(tmp_path / name) as file:
            file.write(content)
        files.append([WrittenFile(name, file.size, file.sha256)])
    return Manifest(
        step=7,
        world_size=2,
        zero_stage=3,
        run_id="demo-1a2b3c4d",
        config_hash="1a2b3c4d",
        attempt=0,
        time=0.0,
        torch_version="2",
        deepspeed_version="0",
        universal_checkpoint_info={"universal_checkpoint_version": 0.4},
        files=entries(files),
    )


def test_what_was_written_reads_back_and_verifies(tmp_path: Path, manifest: Manifest) -> None:
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert [(entry.rank, entry.size) for entry in manifest.files] == [(0, 5000), (1, 6000)]
    assert manifest.size == 11000
    assert [entry.sha256 for entry in manifest.files] == [hashlib.sha256(text).hexdigest() for text in CONTENT.values()]
    verify_sizes(tmp_path, manifest)
    for rank in (0, 1):
        verify_part(tmp_path, manifest, rank, 2)


def test_each_rank_reads_its_own_part_alone(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / "states/b.pt").write_bytes(b"Second" + CONTENT["states/b.pt"][6:])
    verify_sizes(tmp_path, manifest)
    verify_part(tmp_path, manifest, 0, 2)
    with pytest.raises(BadCheckpointError, match=r"states/b\.pt is not what was written"):
        verify_part(tmp_path, manifest, 1, 2)
    with pytest.raises(BadCheckpointError, match=r"states/b\.pt is not what was written"):
        verify_part(tmp_path, manifest, 0, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(b""), "has 0 bytes instead of 5000"),
        (lambda path: path.write_bytes(b"x" * 5001), "has 5001 bytes instead of 5000"),
    ],
    ids=["missing", "empty", "longer"],
)
def test_sizes_that_do_not_agree(tmp_path: Path, manifest: Manifest, change: object, words: str) -> None:
    change(tmp_path / "states/a.pt")  # type: ignore[operator]
    with pytest.raises(BadCheckpointError, match=words):
        verify_sizes(tmp_path, manifest)


@pytest.mark.parametrize("name", ["manifest.json", "states/a.pt"])
def test_a_file_system_that_fails_says_nothing_of_the_checkpoint(tmp_path: Path, manifest: Manifest, name: str) -> None:
    write_manifest(tmp_path, manifest)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/proc/self/mem")  # its first page cannot be read
    with pytest.raises(OSError, match="Input/output error"):
        verify_part(tmp_path, read_manifest(tmp_path), 0, 2)


@pytest.mark.parametrize("name", ["manifest.json", "states/a.pt", "states"])
def test_something_else_in_the_place_of_a_file_does_not_verify(tmp_path: Path, manifest: Manifest, name: str) -> None:
    write_manifest(tmp_path, manifest)
    path = tmp_path / name
    if path.is_dir():
        shutil.rmtree(path)
        path.touch()
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(BadCheckpointError, match=r"missing|there is no manifest\.json"):
        verify_part(tmp_path, read_manifest(tmp_path), 0, 2)


def test_pruning_goes_on_beside_a_checkpoint_that_cannot_be_looked_at(tmp_path: Path, manifest: Manifest) -> None:
    folder = RunFolder(tmp_path / "run")
    for step in (1, 2, 3):
        shutil.copytree(tmp_path / "states", folder.checkpoint(step) / "states")
        write_manifest(folder.checkpoint(step), manifest)
    newest = folder.manifest(3)
    newest.unlink()
    newest.symlink_to("/proc/self/mem")
    assert prune(folder, 1) == [1]
    assert list_checkpoints(folder) == ([3, 2], 0)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "names no files"),
        ([Entry("../../other/x.pt", 1, "", 0)], "outside the checkpoint"),
        ([Entry("/etc/passwd", 1, "", 0)], "outside the checkpoint"),
    ],
    ids=["none", "above", "absolute"],
)
def test_manifests_that_name_wrong_files(tmp_path: Path, manifest: Manifest, files: list[Entry], words: str) -> None:
    write_manifest(tmp_path, replace(manifest, files=files))
    with pytest.raises(BadCheckpointError, match=words):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a manifest"),
        (b"[1, 2]", "is not a manifest"),
        (b'{"format_version": 1}', "is not a manifest"),
        (b'{"format_version": 2}', "format version 2; this Muster reads 1"),
        (b'{"step": 3}', "format version None"),
    ],
    ids=["empty", "a list", "nothing in it", "newer", "somebody else's"],
)
def test_what_is_no_manifest(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(BadCheckpointError, match=words):
        read_manifest(tmp_path)


def test_a_write_error_waits_and_is_the_file_systems_own(tmp_path: Path) -> None:
    files, written = EngineFiles(), WrittenNow(tmp_path)
    files.begin(written.take)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        files.save({"weights": torch.zeros(100_000)}, str(tmp_path / "large.pt"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    files.save({"weights": torch.zeros(1)}, str(tmp_path / "after.pt"))
    with pytest.raises(OSError, match="File too large") as caught:
        files.end()
    assert caught.value.errno == errno.EFBIG
    assert written.files == []
    files.begin(written.take)
    files.save({"weights": torch.ones(10)}, str(tmp_path / "small.pt"))
    files.end()
    (file,) = written.files
    assert file.name == "small.pt"
    assert (file.size, file.sha256) == sha256_of(tmp_path / "small.pt")


def test_only_files_that_were_verified_are_unpickled(tmp_path: Path) -> None:
    files = EngineFiles()
    path = tmp_path / "a.pt"
    torch.save({"x": 1}, path)
    with pytest.raises(PermissionError, match="not a verified file"):
        files.load(str(path))
    files.readable = frozenset([path])
    assert files.load(str(path)) == {"x": 1}


class SmallWrites(io.RawIOBase):
    """A file that takes a few bytes at a time, as a kernel may."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        self.content += bytes(data[:7])
        return min(7, len(data))


def test_partial_writes_are_continued() -> None:
    raw = SmallWrites()
    file = HashingFile(raw)  # type: ignore[arg-type]
    assert file.write(b"0123456789" * 3) == 30
    assert raw.content == b"0123456789" * 3
    assert file.sha256 == hashlib.sha256(raw.content).hexdigest()
