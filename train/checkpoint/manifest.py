"""A checkpoint's manifest: which files it has, how long they are and their SHA-256. It is written last.

torch and safetensors carry no checksum, so a flipped bit would load in silence; nothing is read from a checkpoint whose
manifest does not agree with its files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec

from conf.files import write_atomically
from conf.layout import MANIFEST as FILE_NAME
from conf.outcome import Cause
from train.checkpoint.storage import WrittenFile, sha256_of

FORMAT_VERSION = 1
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""What a file system says where there is no such file; its other errors say nothing of the checkpoint."""


class BadCheckpointError(Exception):
    """A checkpoint that does not verify; its words say why."""

    cause = Cause.checkpoint


@dataclass(frozen=True)
class Entry:
    """One file of a checkpoint: name relative to its folder, size in bytes, and the rank that wrote it."""

    name: str
    size: int
    sha256: str
    rank: int


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` holds. `config_hash` are the last 8 hex digits of the run's id.

    `universal_checkpoint_info` and `zero_stage` are what a conversion to another world size needs to know.
    """

    step: int
    world_size: int
    zero_stage: int
    run_id: str
    config_hash: str
    attempt: int
    time: float
    torch_version: str
    deepspeed_version: str
    universal_checkpoint_info: dict[str, float]
    files: list[Entry] = field(default_factory=list)
    format_version: int = FORMAT_VERSION

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)


def entries(written: list[list[WrittenFile]]) -> list[Entry]:
    """The manifest's files from what each rank wrote, in rank order."""
    return [Entry(file.name, file.size, file.sha256, rank) for rank, files in enumerate(written) for file in files]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` atomically; everything it names has to be on the disk by now."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    write_atomically(folder / FILE_NAME, content)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint.

    Raises:
        BadCheckpointError: there is none, it is another format's, or it is not one of Muster's.
        OSError: the file system failed.
    """
    try:
        content = (folder / FILE_NAME).read_bytes()
        version = msgspec.json.decode(content, type=dict[str, object]).get("format_version")
        if version != FORMAT_VERSION:
            raise BadCheckpointError(f"{FILE_NAME} has format version {version}; this Muster reads {FORMAT_VERSION}")
        manifest = msgspec.json.decode(content, type=Manifest)
    except _MISSING:
        raise BadCheckpointError(f"there is no {FILE_NAME}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadCheckpointError(f"{FILE_NAME} is not a manifest: {error}") from error
    for entry in manifest.files:
        if PurePosixPath(entry.name).is_absolute() or ".." in PurePosixPath(entry.name).parts:
            raise BadCheckpointError(f"{FILE_NAME} names a file outside the checkpoint: {entry.name}")
        if "\0" in entry.name:
            raise BadCheckpointError(f"{FILE_NAME} names a file that no file system can hold: {entry.name!r}")
    if not manifest.files:
        raise BadCheckpointError(f"{FILE_NAME} names no files")
    return manifest


def verify_sizes(folder: Path, manifest: Manifest) -> None:
    """Check that every file is there with its length.

    Raises:
        BadCheckpointError: one is not.
        OSError: the file system failed.
    """
    for entry in manifest.files:
        try:
            size = (folder / entry.name).stat().st_size
        except _MISSING:
            raise BadCheckpointError(f"{entry.name} is missing") from None
        if size != entry.size:
            raise BadCheckpointError(f"{entry.name} has {size} bytes instead of {entry.size}")


def verify_part(folder: Path, manifest: Manifest, rank: int, world_size: int) -> None:
    """Read and hash one rank's share of the files: those that the same rank wrote, dealt round over `world_size`.

    Raises:
        BadCheckpointError: a file is not what was written.
        OSError: the file system failed.
    """
    for entry in manifest.files:
        if entry.rank % world_size != rank:
            continue
        try:
            size, sha256 = sha256_of(folder / entry.name)
        except _MISSING:
            raise BadCheckpointError(f"{entry.name} is missing") from None
        if (size, sha256) != (entry.size, entry.sha256):
            raise BadCheckpointError(
                f"{entry.name} is not what was written: SHA-256 {sha256[:12]} instead of {entry.sha256[:12]}"
            )
