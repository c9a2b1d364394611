"""An ordinary person on the devcluster: a user without rights, a folder of their own, a Python that they can run."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from compileall import compile_dir
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("conf", "launcher", "slurm", "train", "muster.py")
USER = "muster-test"


@dataclass(frozen=True)
class Person:
    """Who submits. `home` is theirs alone; `python` runs this checkout's code with the packages of the tests."""

    name: str
    uid: int
    gid: int
    home: Path
    python: Path
    slurm_conf: Path

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of the person's shell. A devcluster is asked as often as one likes."""
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "LANG": "C.UTF-8",
            "SLURM_CONF": str(self.slurm_conf),
            "MUSTER_DEVCLUSTER": str(self.slurm_conf.parent),
            "MUSTER_SQUEUE_AGE_S": "0.5",
            "OMP_NUM_THREADS": "1",
        }

    def run(
        self, *argv: str, cwd: Path | None = None, timeout_s: float = 120, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the person; with `check` its failure raises with what it printed."""
        done = subprocess.run(
            argv, cwd=cwd or self.home, env={**self.environment, **variables}, capture_output=True, text=True,
            timeout=timeout_s, stdin=subprocess.DEVNULL, **self.identity,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def muster(self, *words: str, cwd: Path | None = None, timeout_s: float = 120, check: bool = True) -> str:
        """Run the CLI as the person; its standard output."""
        return self.run(*self.program, *words, cwd=cwd, timeout_s=timeout_s, check=check).stdout

    @property
    def program(self) -> list[str]:
        """The CLI as they start it."""
        return [str(self.python), "-m", "muster"]

    @property
    def identity(self) -> dict[str, object]:
        """Arguments of `subprocess` that make a child the person's own."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if os.geteuid() == 0 else {}


def make_person(folder: Path, slurm_conf: Path) -> Person:
    """The person, with a home in `folder`; as root the user is made where it is missing, else it is oneself."""
    if os.geteuid() == 0:
        account = _account()
        uid, gid, name = account.pw_uid, account.pw_gid, account.pw_name
    else:
        uid, gid, name = os.getuid(), os.getgid(), pwd.getpwuid(os.getuid()).pw_name
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, uid, gid)
    return Person(name, uid, gid, home, _python(folder, uid, gid), slurm_conf)


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        argv = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/bash", USER]
        subprocess.run(argv, check=True, capture_output=True)
        return pwd.getpwnam(USER)


def _python(folder: Path, uid: int, gid: int) -> Path:
    """The Python of the tests where the person can run it on this checkout, else a copy that they can."""
    identity = {"user": uid, "group": gid, "extra_groups": []} if os.geteuid() == 0 else {}
    with_checkout = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import muster, conf.schema",
    ]
    try:
        seen = subprocess.run(with_checkout, cwd="/", env={}, capture_output=True, **identity)  # type: ignore[call-overload]
        if seen.returncode == 0 and _installed(identity):
            return Path(sys.executable)
    except OSError:
        pass
    return _copy(folder / "python")


def _installed(identity: dict[str, object]) -> bool:
    argv = [sys.executable, "-I", "-c", "import muster"]
    return subprocess.run(argv, cwd="/", capture_output=True, **identity).returncode == 0  # type: ignore[call-overload]


def _copy(prefix: Path) -> Path:
    """A copy of the interpreter alone, which finds the packages and a copy of the checkout by a .pth file."""
    base = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = prefix / "lib" / version
    shutil.copytree(
        base / "lib" / version,
        library,
        symlinks=True,
        ignore=shutil.ignore_patterns("site-packages", "test", "idlelib", "*.a"),
    )
    for shared in (base / "lib").glob("libpython*.so*"):
        shutil.copy2(shared, prefix / "lib", follow_symlinks=False)
    program = prefix / "bin" / "python3"
    program.parent.mkdir()
    # A build with a shared library names the folder of that library in itself; the copy has to look beside itself.
    inside = f"{base}/lib".encode() + b"\0"
    content = (base / "bin" / version).read_bytes()
    program.write_bytes(content.replace(inside, b"$ORIGIN/../lib".ljust(len(inside), b"\0")))
    program.chmod(0o755)
    checkout = prefix / "checkout"
    for name in PACKAGES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, checkout / name)
    shutil.copytree(checkout / "launcher" / "hydra_plugins", checkout / "hydra_plugins")
    packages = library / "site-packages"
    packages.mkdir()
    installed = [place for place in sys.path if place.endswith("site-packages")]
    compile_dir(checkout, quiet=1)  # the person cannot keep what their Python compiles
    (packages / "tests.pth").write_text("\n".join([str(checkout), *installed]) + "\n")
    subprocess.run(["chmod", "-R", "a+rX", str(prefix)], check=True)
    return program
