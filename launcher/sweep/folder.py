"""The files of a sweep folder, `<run_root>/sweeps/<sweep id>/`: every name in one place.

sweep.json        the points and the command that gave them (`launcher.sweep.record.Sweep`)
ledger.jsonl      a line before and after every sbatch (`launcher.sweep.ledger`); its lock is that of the sweep
arrays/NN.sbatch  the script of a Slurm array; NN-export.sbatch that of the exports after it
arrays/NN.points  one run folder a line: line i, from 0, is element i
logs/A_i.log      what element i of array A said before its attempt had a folder
report.html       the report; points.csv its table
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from conf.files import is_visible_file, write_atomically
from conf.schema import Access
from launcher.facts.runs import is_id_of
from launcher.problems import MusterError, NotFoundError
from launcher.sweep.record import Sweep, encode_sweep, read_sweep

SWEEPS = "sweeps"


class SweepFolder:
    """The folder of one sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SweepFolder) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def sweep_json(self) -> Path:
        return self.path / "sweep.json"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.jsonl"

    @property
    def arrays(self) -> Path:
        return self.path / "arrays"

    def script(self, number: int, purpose: str = "") -> Path:
        """What sbatch gets for an array, or for the array of exports after it."""
        return self.arrays / f"{number:02d}{f'-{purpose}' if purpose else ''}.sbatch"

    def points(self, number: int) -> Path:
        return self.arrays / f"{number:02d}.points"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def table(self) -> Path:
        return self.path / "points.csv"

    @property
    def picture(self) -> Path:
        return self.path / "best.svg"

    @property
    def journal(self) -> Path:
        """Where Optuna keeps a study."""
        return self.path / "optuna.jsonl"

    @property
    def controller_script(self) -> Path:
        """What sbatch gets for the job that chooses and sends trials."""
        return self.path / "controller.sbatch"

    @property
    def controller_lock(self) -> Path:
        """Held by the one controller of a study."""
        return self.path / "controller.lock"

    @property
    def file_mode(self) -> int:
        """What its files may be read by: as the folder."""
        return self.path.stat().st_mode & 0o666

    def write(self, path: Path, content: bytes) -> None:
        """Write one of its files atomically, as readable as the folder."""
        write_atomically(path, content, self.file_mode)


def folder_of(run_root: str | Path, sweep: str) -> SweepFolder:
    """The folder of a sweep by its id."""
    return SweepFolder(Path(run_root, SWEEPS, sweep).absolute())


def create(folder: SweepFolder, sweep: Sweep, access: Access) -> bool:
    """Make the folder at once or not at all; False where it is there already.

    Raises:
        MusterError: it cannot be made, or is not safe to use.
    """
    mode = {Access.private: 0o700, Access.group: 0o2750}[access]
    beside = folder.path.with_name(f".{folder.path.name}.{os.getpid()}.{secrets.token_hex(4)}.new")
    try:
        folder.path.parent.mkdir(mode=mode & 0o777, parents=True, exist_ok=True)
        if not folder.path.exists():
            new = SweepFolder(beside)
            for made in (new.path, new.arrays, new.logs):
                made.mkdir(mode=0o700)
                made.chmod(mode)
            new.write(new.sweep_json, encode_sweep(sweep))
            with contextlib.suppress(OSError):  # somebody else was first
                beside.rename(folder.path)
                return True
        require_safe(folder)
        return False
    except OSError as error:
        raise MusterError(f"cannot make {folder.path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def require_safe(folder: SweepFolder) -> None:
    """Refuse a sweep folder that others could have written.

    Raises:
        MusterError: it belongs to somebody else, is a link, or everyone may write in it.
    """
    found = folder.path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & stat.S_IWOTH:
        raise MusterError(
            f"{folder.path} is not a folder of your own that only you can write in; its scripts run as you"
        )


@contextlib.contextmanager
def locked(folder: SweepFolder) -> Iterator[None]:
    """The sweep for one command alone; a command that died lets go of it.

    Raises:
        MusterError: another command is sending it, or its file system has no locks.
    """
    require_safe(folder)
    descriptor = os.open(folder.ledger, os.O_RDWR | os.O_APPEND | os.O_CREAT, folder.file_mode)
    try:
        if not flocked(descriptor, fcntl.LOCK_EX, folder):
            raise MusterError(f"another command works on the sweep {folder.path.name}; wait for it")
        yield
    finally:
        os.close(descriptor)


def flocked(descriptor: int, kind: int, folder: SweepFolder) -> bool:
    """Whether the lock of a file of the sweep was taken; it goes with the descriptor.

    Raises:
        MusterError: its file system has no locks, as Lustre mounted without `flock` and NFS 3 without lockd.
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        words = f"nothing in {folder.path} can be locked (flock: {error.strerror}), which sweeps need"
        raise MusterError(f"{words}; name a run_root on another file system, or mount this one with locks") from error
    return True


def list_sweeps(run_root: str | Path) -> list[SweepFolder]:
    """All sweep folders of a run root, by name."""
    try:
        entries = sorted(path for path in Path(run_root, SWEEPS).absolute().iterdir() if not path.name.startswith("."))
    except OSError:
        return []
    return [folder for folder in map(SweepFolder, entries) if is_visible_file(folder.sweep_json)]


def find(argument: str, run_root: str | Path) -> SweepFolder:
    """The sweep that a name, an id or a folder means.

    Raises:
        NotFoundError: none is meant, or several are.
    """
    for path in (Path(run_root, SWEEPS, argument), Path(argument).expanduser()):
        folder = SweepFolder(path.absolute())
        if is_visible_file(folder.sweep_json):
            return folder
    sweeps = list_sweeps(run_root)
    named = [folder for folder in sweeps if is_id_of(folder.path.name, argument)]
    if len(named) == 1:
        return named[0]
    if named:
        ids = ", ".join(folder.path.name for folder in named)
        raise NotFoundError(f"{argument!r} means {len(named)} sweeps; give an id: {ids}")
    there = ", ".join(folder.path.name for folder in sweeps[:5])
    known = f"it has {there}{f' and {len(sweeps) - 5} more' if len(sweeps) > 5 else ''}" if sweeps else "it has none"
    raise NotFoundError(f"no sweep {argument!r} in {Path(run_root, SWEEPS).absolute()}: {known}")


def read(folder: SweepFolder) -> Sweep:
    """The sweep of a folder.

    Raises:
        MusterError: it cannot be read.
    """
    try:
        return read_sweep(folder.sweep_json)
    except (OSError, ValueError) as error:
        raise MusterError(f"{folder.path}: {error}") from error


def write_sweep(folder: SweepFolder, sweep: Sweep) -> None:
    """Write `sweep.json` again, with points added."""
    folder.write(folder.sweep_json, encode_sweep(sweep))
