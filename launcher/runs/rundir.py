"""Run folders: making them at once or not at all, finding them, locking them.

A folder appears under its name only when it is whole: it is written beside and renamed, and of two that make the same
run at the same moment one wins and the other carries on with the winner's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from conf.files import is_visible_file, write_atomically
from conf.layout import RunFolder
from conf.node_ledger import is_named
from conf.record import Plan
from conf.schema import Access, ClusterConfig, ClusterKind, ContainerRuntime
from launcher.facts.runs import is_id_of, read_run
from launcher.plan.content import content_of, difference
from launcher.problems import ConfigurationError, MusterError, NotFoundError, Problem
from launcher.runs.submissions import read_submissions
from slurm.parse import is_job_id

_MODES = {Access.private: (0o700, 0o600), Access.group: (0o2750, 0o640)}


Links = dict[str, tuple[bytes, Path]]
"""Files of an earlier run by their names in it, with their content: runs of a sweep share the snapshots of the code."""

_LINKED = "code/"


def create(plan: Plan, artifacts: Mapping[str, bytes], links: Links | None = None) -> RunFolder:
    """Make the run folder, or carry on with the one that has the same content.

    With `links`, snapshots of the code that an earlier run has already become hard links to that run's; those of this
    run are added.

    Where it is there already, files that differ (free keys, code) are replaced by those of `artifacts`; what the run
    itself wrote stays. The caller makes sure before that the run is not running.

    Raises:
        ConfigurationError: a run of the same id has other content.
        MusterError: the folder cannot be made, or is not safe to use.
    """
    folder = RunFolder(Path(plan.run_dir))
    folder_mode, file_mode = _MODES[plan.config.access]
    root = folder.path.parent
    try:
        root.mkdir(mode=folder_mode & 0o777 | stat.S_IXUSR, parents=True, exist_ok=True)
        make_mounted(plan.config.cluster)
        if not folder.path.exists():
            beside = root / f".{folder.path.name}.{os.getpid()}.{secrets.token_hex(4)}.new"
            try:
                _write_all(beside, artifacts, folder_mode, file_mode, links or {})
                if _renamed(beside, folder.path):
                    _remember(links, folder, artifacts)
                    return folder
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        require_safe(folder)
        _require_same(folder, plan)
        _refresh(folder, artifacts, folder_mode, file_mode)
        _remember(links, folder, artifacts)
    except OSError as error:
        raise MusterError(f"cannot make {folder.path}: {error.strerror or error}") from error
    return folder


def make_mounted(cluster: ClusterConfig) -> None:
    """A container starts only where each folder that it mounts is there, and nobody may have written the ledger yet."""
    contained = cluster.kind is ClusterKind.slurm and cluster.container.runtime is not ContainerRuntime.none
    if contained and cluster.node_ledger and is_named(cluster.node_ledger):
        try:
            Path(cluster.node_ledger).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise MusterError(f"cluster.node_ledger={cluster.node_ledger} cannot be made: {error.strerror}") from error


def require_safe(folder: RunFolder) -> None:
    """Refuse a run folder that others could have written.

    Raises:
        MusterError: it belongs to somebody else, is a link, or everyone may write in it.
    """
    found = folder.path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise MusterError(f"{folder.path} is not a folder")
    if found.st_uid != os.getuid():
        raise MusterError(f"{folder.path} belongs to user {found.st_uid}, not to you; its files would be run as you")
    if found.st_mode & stat.S_IWOTH:
        raise MusterError(f"{folder.path} can be written by everyone; its files would be run as you: chmod o-w it")


def list_runs(run_root: str | Path) -> list[RunFolder]:
    """All run folders in `run_root` that may be read, by name; none where it does not exist."""
    try:
        with os.scandir(run_root) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError:
        return []
    folders = (RunFolder(Path(run_root, name).absolute()) for name in names)
    return [folder for folder in folders if is_visible_file(folder.run_json)]


def find(argument: str, run_root: str | Path) -> RunFolder:
    """The run that a name, an id, a folder or a Slurm job id means.

    Raises:
        NotFoundError: none is meant, or several are.
    """
    for path in (Path(run_root, argument), Path(argument).expanduser()):
        folder = RunFolder(path.absolute())
        if is_visible_file(folder.run_json):
            return folder
    runs = list_runs(run_root)
    named = [folder for folder in runs if is_id_of(folder.path.name, argument)]
    if not named and is_job_id(argument):
        named = [folder for folder in runs if argument in job_ids(folder)]
    if len(named) == 1:
        return named[0]
    if named:
        ids = ", ".join(folder.path.name for folder in named)
        raise NotFoundError(f"{argument!r} means {len(named)} runs; give an id: {ids}")
    known = ", ".join(folder.path.name for folder in runs[:5])
    more = f" and {len(runs) - 5} more" if len(runs) > 5 else ""
    there = f"it has {known}{more}" if runs else "it has no runs"
    raise NotFoundError(f"no run {argument!r} in {Path(run_root).absolute()}: {there}")


def job_ids(folder: RunFolder) -> set[str]:
    """Slurm's job ids of a run, by its `submissions.jsonl`; of an element of an array, the array's as well."""
    ids = {sent.job_id for sent in read_submissions(folder)}
    return ids | {job_id.partition("_")[0] for job_id in ids}


def take_lock(folder: RunFolder, job: str) -> str | None:
    """Take the run for `job` (such as `slurm:123`); None, or the job that holds it.

    The file is made exclusively with its content in place, so that nobody ever reads an empty one.
    """
    beside = folder.lock.with_name(f".{folder.lock.name}.{os.getpid()}.{secrets.token_hex(4)}")
    write_atomically(beside, f"{job}\n".encode())
    try:
        os.link(beside, folder.lock)
    except FileExistsError:
        holder = read_lock(folder)
        return None if holder == job else holder or "a job that just ended"
    finally:
        beside.unlink()
    return None


def read_lock(folder: RunFolder) -> str | None:
    """The job that holds the run, or None."""
    try:
        return folder.lock.read_text().strip()
    except FileNotFoundError:
        return None


def release_lock(folder: RunFolder, job: str) -> None:
    """Give the run back where `job` holds it."""
    if read_lock(folder) == job:
        with contextlib.suppress(FileNotFoundError):
            folder.lock.unlink()


def _write_all(place: Path, artifacts: Mapping[str, bytes], folder_mode: int, file_mode: int, links: Links) -> None:
    place.mkdir(mode=0o700)
    for name, content in artifacts.items():
        _make_parents(place, name, folder_mode)
        known, path = links.get(name, (b"", place))
        if known != content or not _linked(path, place / name, file_mode):
            write_atomically(place / name, content, file_mode)
    place.chmod(folder_mode)


def _linked(path: Path, target: Path, file_mode: int) -> bool:
    """Whether `target` is now a hard link to `path`; False where the file system has none, or rights differ."""
    try:
        if stat.S_IMODE(path.lstat().st_mode) != file_mode:
            return False
        target.hardlink_to(path)
    except OSError:
        return False
    return True


def _remember(links: Links | None, folder: RunFolder, artifacts: Mapping[str, bytes]) -> None:
    if links is not None:
        links |= {name: (artifacts[name], folder.path / name) for name in artifacts if name.startswith(_LINKED)}


def _make_parents(place: Path, name: str, folder_mode: int) -> None:
    for parent in reversed(PurePosixPath(name).parents[:-1]):
        folder = place / parent
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
            folder.chmod(folder_mode)


def _renamed(beside: Path, path: Path) -> bool:
    """Whether `beside` is now at `path`; False where somebody else was first."""
    try:
        beside.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _require_same(folder: RunFolder, plan: Plan) -> None:
    run = read_run(folder.path, str(plan.config.name))
    if run is None:
        raise MusterError(
            f"{folder.path} is there, but is no run folder of Muster's; move it away or give another name"
        )
    lines = difference(run.content, content_of(plan.config))
    if lines:
        rule = f"has the id of a run with other content in {folder.path}: {'; '.join(lines)}"
        raise ConfigurationError([Problem("name", str(plan.config.name), rule)])


def _refresh(folder: RunFolder, artifacts: Mapping[str, bytes], folder_mode: int, file_mode: int) -> None:
    for name, content in artifacts.items():
        path = folder.path / name
        try:
            same = path.read_bytes() == content
        except FileNotFoundError:
            same = False
        if not same:
            _make_parents(folder.path, name, folder_mode)
            write_atomically(path, content, file_mode)
    for script in (folder.job_sh, folder.job_sbatch):
        if script.name not in artifacts:
            script.unlink(missing_ok=True)
