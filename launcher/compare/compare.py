"""Two runs read and compared."""

from __future__ import annotations

from collections.abc import Mapping

from conf.layout import RunFolder
from launcher.compare.difference import Difference, difference
from launcher.compare.facets import RESULTS, Facets, facets_of, result_facts
from launcher.runs.read import read_lines
from launcher.runs.series import Series
from launcher.runs.standing import stand
from launcher.why.timeline import tell
from slurm.parse import Job


def compare(one: RunFolder, other: RunFolder, jobs: Mapping[str, Job] | None) -> Difference:
    """What differs between two runs.

    Raises:
        FileNotFoundError, ValueError: a run.json is missing or cannot be read.
    """
    return difference(_read(one, jobs), _read(other, jobs))


def _read(folder: RunFolder, jobs: Mapping[str, Job] | None) -> Facets:
    series = Series()
    for line in read_lines(folder.metrics):
        series.take(line)
    return {**facets_of(folder), RESULTS: result_facts(stand(folder, jobs), series, tell(folder))}
