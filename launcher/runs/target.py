"""Finding the run that a RUN argument means, and where runs are looked for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from conf.layout import RunFolder

DEFAULT_ROOT = "./runs"


def add_run_root(parser: argparse.ArgumentParser) -> None:
    """The flag `--run-root`, also accepted as the override people know, `run_root=DIR`."""
    parser.add_argument("--run-root", metavar="DIR", help="folder with run folders (default: your run_root, ./runs)")


def run_root(given: str | None) -> str:
    """Where runs are looked for: as given, else the `run_root` that your own or your site's files set, else ./runs."""
    if given:
        return given
    own = Path(os.environ.get("XDG_CONFIG_HOME", "~/.config")).expanduser() / "muster"
    if os.environ.get("MUSTER_SITE") or own.is_dir():
        from launcher.compose.compose import compose

        return compose([]).run_root
    return DEFAULT_ROOT


def find(argument: str, given_root: str | None) -> RunFolder:
    """The run folder of a name, an id, a folder or a Slurm job id.

    Raises:
        NotFoundError: there is none, or several.
    """
    from launcher.runs import rundir

    return rundir.find(argument, run_root(given_root))


def find_each(arguments: Iterable[str], given_root: str | None) -> list[RunFolder]:
    """The run folders of several arguments, each once.

    Raises:
        NotFoundError: with every argument that means none, or several.
    """
    from launcher.problems import NotFoundError
    from launcher.runs import rundir

    root = run_root(given_root)
    found: dict[Path, RunFolder] = {}
    missing = []
    for argument in arguments:
        try:
            folder = rundir.find(argument, root)
            found[folder.path] = folder
        except NotFoundError as error:
            missing.append(str(error))
    if missing:
        raise NotFoundError("\n".join(missing))
    return list(found.values())
