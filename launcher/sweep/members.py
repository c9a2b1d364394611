"""Runs that words of a command line mean: names, ids, folders, Slurm job ids, and sweeps for all their points."""

from __future__ import annotations

from collections.abc import Iterable

from conf.layout import RunFolder
from launcher.problems import NotFoundError
from launcher.runs import rundir
from launcher.sweep import folder as sweeps


def find_runs(words: Iterable[str], run_root: str) -> list[RunFolder]:
    """Each run once, in the order of the words; of a sweep those points that were prepared.

    Raises:
        NotFoundError: a word means neither a run nor a sweep, or several.
    """
    found: dict[str, RunFolder] = {}
    for word in words:
        for run in _meant(word, run_root):
            found[str(run.path)] = run
    return list(found.values())


def find_sweep(word: str, run_root: str) -> sweeps.SweepFolder | None:
    """The sweep that a word means, where it means one and no run."""
    try:
        rundir.find(word, run_root)
    except NotFoundError:
        try:
            return sweeps.find(word, run_root)
        except NotFoundError:
            return None
    return None


def _meant(word: str, run_root: str) -> list[RunFolder]:
    sweep = find_sweep(word, run_root)
    if sweep is None:
        return [rundir.find(word, run_root)]
    points = [point.folder for point in sweeps.read(sweep).points]
    return [folder for folder in points if folder.run_json.is_file()]
