"""The command `muster`: finds Muster's own packages, whatever lies in the working folder or on PYTHONPATH, and starts.

People keep files named `train.py`, `conf/`, `slurm.py` or `launcher.py` where they work. This module pins those four
names to the folder in which it lies itself, and says in one line what it had to pass by. Standard library only.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

PACKAGES = ("conf", "launcher", "slurm", "train")
HERE = Path(__file__).resolve().parent


class PinnedFinder:
    """Finds Muster's packages beside this file and nothing else; stands first in `sys.meta_path`."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Specification of one of Muster's packages; None for every other name."""
        return PathFinder.find_spec(name, [str(HERE)], target) if path is None and name in PACKAGES else None


def pin() -> list[str]:
    """Pin Muster's packages to their own folder; returns a line for each folder that would have hidden some of them."""
    warnings = [
        f"muster: {folder} has {', '.join(names)} of its own; Muster uses its own packages"
        for folder, names in _hiding()
    ]
    if PinnedFinder not in sys.meta_path:
        sys.meta_path.insert(0, PinnedFinder)
    for name in PACKAGES:
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded is not None and Path(loaded).resolve().parent.parent != HERE:
            del sys.modules[name]
    return warnings


def _hiding() -> list[tuple[Path, list[str]]]:
    """Folders on `sys.path` before Muster's own, with the names they would have hidden."""
    found = []
    for folder in dict.fromkeys(Path(entry).resolve() for entry in sys.path):
        if folder == HERE:
            break
        names = [
            name for name in PACKAGES if (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
        ]
        if names:
            found.append((folder, names))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    gc.set_threshold(100_000)  # a start makes some 100,000 objects that all stay: searching them for garbage is wasted
    for line in pin():
        print(line, file=sys.stderr)
    from launcher.cli import main as run

    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
