"""The points of a sweep as they stand, best first, and the files that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conf.schema import Direction
from launcher.send.scheduler import live_jobs
from launcher.sweep.folder import SweepFolder, read
from launcher.sweep.picture import comparison
from launcher.sweep.ranking import WITHOUT_EVALUATION, Criterion, Ranked, criterion_of, rank
from launcher.sweep.record import Sweep
from launcher.sweep.report import report_page
from launcher.sweep.results import Result, read_curve, read_results
from launcher.sweep.table import csv_table


@dataclass(frozen=True)
class Summary:
    """A sweep and its points by a criterion."""

    folder: SweepFolder
    sweep: Sweep
    ranked: Sequence[Ranked]
    criterion: Criterion

    def write_picture(self) -> None:
        """Write the picture that compares the points."""
        self.folder.write(self.folder.picture, comparison(self.ranked, self.criterion).as_file.encode())

    def write_report(self) -> None:
        """Write report.html and points.csv."""
        points = [one.result.point for one in self.ranked]
        curves = {
            metric: {point.run_id: read_curve(point.folder, metric) for point in points}
            for metric in dict.fromkeys((self.criterion.metric, WITHOUT_EVALUATION))
        }
        shown = {metric: runs for metric, runs in curves.items() if any(runs.values())}
        page = report_page(self.sweep, self.ranked, self.criterion, shown)
        self.folder.write(self.folder.table, csv_table(self.ranked).encode())
        self.folder.write(self.folder.report, page.encode())


def summarize(folder: SweepFolder, metric: str | None = None, direction: Direction | None = None) -> Summary:
    """The sweep of a folder, by the metric and direction asked for or by its own.

    Raises:
        NotFoundError: no point has any metric yet.
        ConfigurationError: no point has that metric.
    """
    sweep = read(folder)
    results = results_of(sweep)
    criterion = criterion_of(sweep.sweep, results, metric, direction)
    return Summary(folder, sweep, rank(results, criterion), criterion)


def results_of(sweep: Sweep) -> list[Result]:
    """Every point of a sweep as it stands."""
    there = [point.folder for point in sweep.points if point.folder.run_json.is_file()]
    return read_results(sweep.points, live_jobs(there))
