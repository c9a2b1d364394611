"""Where a person's own program lies in the snapshot of their project."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ScriptFacts:
    """The program's `path` and the `folder` where a person would start it, relative to the top of their git checkout.

    `error` is why it cannot travel, or empty.
    """

    path: str = ""
    folder: str = "."
    error: str = ""


def gather_script(entrypoint: str, cwd: Path, root: str, archive: bytes | None) -> ScriptFacts:
    """Look for `entrypoint`, named from `cwd`, in the snapshot of the checkout at `root`."""
    path = Path(cwd, Path(entrypoint).expanduser())
    if not path.is_file():
        return ScriptFacts(error=f"is not there: {path}")
    if archive is None:
        return ScriptFacts(error=f"is in no git checkout, and nodes run a snapshot of one; `git init {cwd}` is enough")
    top = Path(root).resolve()
    if not path.resolve().is_relative_to(top):
        return ScriptFacts(error=f"lies outside of the git checkout {root}, whose snapshot travels with the run")
    inside = path.resolve().relative_to(top).as_posix()
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        if inside not in files.namelist():
            return ScriptFacts(error="is left out of the project's snapshot: .gitignore names it, or it is too large")
    return ScriptFacts(inside, cwd.resolve().relative_to(top).as_posix())
