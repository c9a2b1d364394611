"""The code that travels with a run: `code/muster.zip` and `code/project.zip`.

A queued job runs what was submitted, whatever is edited later. The same files give the same bytes: order, time stamps
and modes are fixed.
"""

from __future__ import annotations

import fnmatch
import io
import os
import stat
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LARGEST_FILE = 1 << 20
LARGEST_TOTAL = 16 << 20
NAMED = 5
KEY_LIKE = (
    ".env",
    ".env.*",
    "*.env",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.kdbx",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".pypirc",
    ".npmrc",
    ".htpasswd",
    "*credentials*",
    "*secret*",
    "*.token",
    "wandb_api_key*",
)

_MAIN = b"from train.__main__ import main\n\nmain()\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Project:
    """Snapshot of the person's project, whose top is `root`; `archive` is None outside a git checkout."""

    archive: bytes | None = None
    root: str = ""
    commit: str = ""
    dirty: bool = False
    notes: tuple[str, ...] = ()


def pack(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of the files by name; equal files give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression, compresslevel=1) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = compression
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, files[name], compresslevel=1)
    return buffer.getvalue()


def pack_muster(root: Path) -> bytes:
    """The zip application that the nodes run: Muster's packages `conf` and `train` beside a `__main__.py`.

    `root` is the folder that holds both packages. Stored, not compressed: ranks import from it.
    """
    files = {"__main__.py": _MAIN}
    for package in ("conf", "train"):
        for path in (root / package).rglob("*.py"):
            files[path.relative_to(root).as_posix()] = path.read_bytes()
    return pack(files, zipfile.ZIP_STORED)


def pack_project(cwd: Path, left_out: Path) -> Project:
    """Tracked, modified and new files of the git checkout around `cwd` that .gitignore does not name.

    Nothing under `left_out` (the run root) is taken. Links, files that look like keys, large files and what passes the
    total are left out as well, and the notes say which.
    """
    root = next((folder for folder in (cwd, *cwd.parents) if (folder / ".git").exists()), None)
    if root is None:
        return Project(notes=(f"{cwd} is in no git checkout: no snapshot of the project",))
    listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if left_out.is_relative_to(root) and left_out != root:
        listed.append(f"--exclude=/{_literal(left_out.relative_to(root).as_posix())}/")
    try:
        processes = [_git(root, "status", "--porcelain=v2", "--branch", "-uno"), _git(root, *listed)]
        (status, error), (names, _) = (process.communicate() for process in processes)
    except OSError as missing:
        return Project(notes=(f"no snapshot of the project: git cannot be run ({missing.strerror})",))
    if any(process.returncode for process in processes):
        reason = error.decode(errors="replace").strip().split("\n")[0]
        return Project(notes=(f"no snapshot of the project: {reason or 'git failed'}",))
    lines = status.decode(errors="replace").splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "")
    dirty = any(not line.startswith("#") for line in lines)
    files, notes = choose_files(root, sorted({os.fsdecode(name) for name in names.split(b"\0") if name}))
    return Project(pack(files), str(root), "" if commit == "(initial)" else commit, dirty, notes)


def choose_files(root: Path, names: list[str]) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Contents of the files that a snapshot takes, and what it left out, in words."""
    out: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for name in names:
        try:
            found = (root / name).lstat()
        except OSError:
            continue  # deleted, but still in the index
        if not stat.S_ISREG(found.st_mode):
            out.setdefault("links and submodules", []).append(name)
        elif looks_like_key(name):
            out.setdefault("looks like a key or password", []).append(name)
        elif found.st_size > LARGEST_FILE:
            out.setdefault(f"larger than {LARGEST_FILE >> 20} MiB", []).append(name)
        else:
            sizes[name] = found.st_size
    files: dict[str, bytes] = {}
    total = 0
    for name in sorted(sizes, key=lambda name: (sizes[name], name)):  # small files are the code
        total += sizes[name]
        if total > LARGEST_TOTAL:
            out.setdefault(f"past {LARGEST_TOTAL >> 20} MiB in total", []).append(name)
            continue
        try:
            files[name] = (root / name).read_bytes()
        except OSError as error:
            out.setdefault(f"cannot be read ({error.strerror})", []).append(name)
    return files, tuple(_left_out(reason, left) for reason, left in out.items())


def looks_like_key(name: str) -> bool:
    """Whether a file's name says that it holds a secret."""
    base = name.rsplit("/", 1)[-1].lower()
    return any(fnmatch.fnmatchcase(base, pattern) for pattern in KEY_LIKE)


def _left_out(reason: str, names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"left out of the project's snapshot, {reason}: {', '.join(sorted(names)[:NAMED])}{more}"


def _literal(name: str) -> str:
    return "".join(f"\\{character}" if character in "*?[]\\!#" else character for character in name)


def _git(root: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", *arguments]
    return subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
