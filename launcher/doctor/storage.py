"""The folders that matter: which file system they lie on, whether nodes share it, how much is free."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from launcher.doctor.finding import Finding
from launcher.facts.machine import free_bytes
from launcher.show import units

MOUNTS = Path("/proc/self/mounts")
NETWORKED = "nfs nfs4 lustre gpfs beegfs fhgfs wekafs ceph fuse.ceph panfs cifs smb3 afs pvfs2 9p virtiofs"
"""File systems of a network, as /proc/mounts names them."""

FUSE = "fuse.juicefs fuse.glusterfs fuse.sshfs"
SHARED = {*NETWORKED.split(), *FUSE.split()}

LITTLE_SPACE = 10 * 2**30


@dataclass(frozen=True)
class Place:
    """A folder, the mount it lies on and its kind. `free` in bytes, None where it cannot be asked."""

    folder: Path
    mount: str
    kind: str
    free: int | None

    @property
    def shared(self) -> bool:
        """Whether other machines see it, as far as the kind of file system tells."""
        return self.kind in SHARED

    def words(self) -> str:
        """The place in words."""
        free = f"{units.size(self.free)} free, " if self.free is not None else ""
        return f"{self.folder}: {free}{self.kind} at {self.mount} ({'shared' if self.shared else 'of this machine'})"


def place_of(folder: Path, mounts: str | None = None) -> Place:
    """Where a folder lies, which may not exist yet."""
    table = mounts if mounts is not None else _read_mounts()
    path = Path(os.path.realpath(folder))
    best = ("/", "unknown")
    for line in table.splitlines():
        words = line.split(" ")
        if len(words) < 3:
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), words[1])
        if path.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, words[2])
    return Place(folder, *best, free_bytes(folder))


def _read_mounts() -> str:
    try:
        return MOUNTS.read_text(errors="replace")
    except OSError:
        return ""


def examine_storage(run_root: Path, python: str, scratch: Path, has_slurm: bool) -> list[Finding]:
    """Free space of the run root; whether nodes can see it and the Python; the scratch folder."""
    runs, program = place_of(run_root), place_of(Path(python).absolute())
    enough = runs.free is None or runs.free > LITTLE_SPACE
    apart = has_slurm and not runs.shared
    unseen = "nodes of a cluster have to see it: set run_root to a shared folder, unless this machine exports it"
    found = [
        Finding("free space", enough, runs.words(), "" if enough else "little for checkpoints"),
        Finding(
            "run folder",
            not apart,
            f"{runs.kind}, {'shared' if runs.shared else 'of this machine'}",
            unseen if apart else "",
        ),
    ]
    if has_slurm:
        lost = "" if program.shared else "nodes have to see it too: an environment in a shared folder, or a container"
        found.append(Finding("ranks' Python", program.shared, program.words(), lost))
    local = place_of(scratch)
    slow = "a folder on the node's own disk is faster: cluster.scratch" if local.shared else ""
    return [*found, Finding("scratch", not local.shared, local.words(), slow)]
