"""Code snapshots: same files, same bytes; what is secret, large or ignored stays out, and that is said."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from launcher.facts.gather import PACKAGE_ROOT
from launcher.render import snapshot


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout with a tracked, a modified, a new, an ignored and a deleted file, and runs below."""
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    (root / "src" / "train.py").write_text("print(1)\n")
    (root / "notes.txt").write_text("old\n")
    (root / "gone.txt").write_text("gone\n")
    (root / ".gitignore").write_text("ignored.txt\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    (root / "notes.txt").write_text("new\n")
    (root / "gone.txt").unlink()
    (root / "fresh.py").write_text("fresh = True\n")
    (root / "ignored.txt").write_text("no\n")
    (root / "runs" / "a").mkdir(parents=True)
    (root / "runs" / "a" / "run.json").write_text("{}")
    return root


def names(archive: bytes | None) -> set[str]:
    assert archive is not None
    return set(zipfile.ZipFile(io.BytesIO(archive)).namelist())


def test_project_has_what_git_does_not_ignore(checkout: Path) -> None:
    found = snapshot.pack_project(checkout / "src", checkout / "runs")
    assert names(found.archive) == {".gitignore", "src/train.py", "notes.txt", "fresh.py"}
    assert found.archive is not None
    assert zipfile.ZipFile(io.BytesIO(found.archive)).read("notes.txt") == b"new\n"
    assert len(found.commit) == 40
    assert found.dirty
    assert found.notes == ()


def test_project_is_deterministic(checkout: Path) -> None:
    first = snapshot.pack_project(checkout, checkout / "runs")
    os.utime(checkout / "notes.txt", (1, 1))
    (checkout / "notes.txt").chmod(0o755)
    assert snapshot.pack_project(checkout, checkout / "runs").archive == first.archive
    (checkout / "notes.txt").write_text("newer\n")
    assert snapshot.pack_project(checkout, checkout / "runs").archive != first.archive


def test_an_archive_depends_on_names_and_contents_alone() -> None:
    files = {"b.py": b"b", "a.py": b"a", "c/d.py": b""}
    assert snapshot.pack(files) == snapshot.pack(dict(reversed(files.items())))
    assert snapshot.pack(files) != snapshot.pack({**files, "a.py": b"A"})


@pytest.mark.parametrize(
    "name",
    [".env", ".env.local", "prod.env", "server.pem", "id_rsa", "id_ed25519.pub", ".netrc", "my_credentials.json",
     "client_secret.json", "deploy.key", "hub.token"],
)  # fmt: skip
def test_files_that_look_like_keys_stay_out(name: str) -> None:
    assert snapshot.looks_like_key(f"some/folder/{name}")
    assert snapshot.looks_like_key(name.upper())


@pytest.mark.parametrize("name", ["environment.yaml", "tokenizer.json", "keys.py", "train.py", "monkey.txt"])
def test_ordinary_files_do_not_look_like_keys(name: str) -> None:
    assert not snapshot.looks_like_key(name)


def test_what_is_left_out_is_said(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / ".env").write_text("PASSWORD=1\n")
    (checkout / "large.bin").write_bytes(b"\0" * (snapshot.LARGEST_FILE + 1))
    (checkout / "link").symlink_to("/etc/passwd")
    monkeypatch.setattr(snapshot, "LARGEST_TOTAL", 30)
    found = snapshot.pack_project(checkout, checkout / "runs")
    assert names(found.archive) == {"notes.txt", "src/train.py", ".gitignore"}
    said = "\n".join(found.notes)
    assert "looks like a key or password: .env" in said
    assert "larger than 1 MiB: large.bin" in said
    assert "links and submodules: link" in said
    assert "in total: fresh.py" in said


def test_outside_a_checkout_there_is_no_project(tmp_path: Path) -> None:
    found = snapshot.pack_project(tmp_path, tmp_path / "runs")
    assert found.archive is None
    assert "no git checkout" in found.notes[0]


def test_muster_zip_runs_isolated(tmp_path: Path) -> None:
    """The archive alone is enough to start, wherever one stands and whatever lies there."""
    archive = tmp_path / "muster.zip"
    content = snapshot.pack_muster(PACKAGE_ROOT)
    archive.write_bytes(content)
    assert snapshot.pack_muster(PACKAGE_ROOT) == content
    packed = names(content)
    assert {"__main__.py", "conf/record.py", "train/__main__.py"} <= packed
    assert not [name for name in packed if name.startswith(("launcher", "slurm")) or not name.endswith(".py")]
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "__init__.py").write_text("raise SystemExit('the folder hides the archive')")
    code = f"import sys; sys.path.insert(0, {str(archive)!r}); import conf.record; print(conf.record.__file__)"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{archive}/conf/record.py"
