"""Which panels a dashboard has: sections of charts over the names that runs log. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conf.board import Board


@dataclass(frozen=True)
class Chart:
    """Lines over the steps; of `names` those that were logged. `log` is the y-axis."""

    title: str
    names: tuple[str, ...]
    log: bool = False


@dataclass(frozen=True)
class Section:
    """Charts under a heading."""

    title: str
    charts: tuple[Chart, ...]


def _spread(title: str, name: str) -> Chart:
    """A figure of all nodes: least, mean, most."""
    return Chart(title, tuple(f"nodes/{name}/{end}" for end in ("min", "mean", "max")))


SECTIONS = (
    Section(
        "Loss and evaluation",
        (
            Chart("Training loss", ("train/loss",)),
            Chart("Evaluation loss", ("eval/loss", "test/loss")),
            Chart("Learning rate", ("train/learning_rate",)),
        ),
    ),
    Section(
        "Speed",
        (
            Chart("Tokens a second", ("perf/tokens_per_second",)),
            Chart("Tokens a second and GPU", ("perf/tokens_per_second_per_gpu",)),
            Chart("Model FLOPs utilisation", ("perf/mfu",)),
            Chart("Seconds a step, and of that waiting for data", ("perf/step_time_s", "perf/data_time_s")),
            Chart("Useful share of the tokens", ("data/useful_share",)),
        ),
    ),
    Section(
        "Stability",
        (
            Chart("Gradient norm", ("train/grad_norm",), log=True),
            Chart("Slowest rank against the median", ("health/straggler_factor",)),
        ),
    ),
    Section(
        "Memory",
        (
            Chart("GPU memory of rank 0, GiB", ("mem/gpu_peak_gib", "mem/gpu_reserved_gib")),
            Chart("Host memory of rank 0, GiB", ("mem/host_peak_gib",)),
        ),
    ),
    Section(
        "Resilience",
        (
            Chart("Attempt", ("run/attempt",)),
            Chart("Goodput", ("run/goodput",)),
            Chart("Steps made twice", ("run/lost_steps",)),
            Chart("Seconds in the queue", ("run/queue_wait_s",)),
        ),
    ),
    Section(
        "Nodes",
        (
            _spread("GPUs in use, %", "gpu_util_percent"),
            _spread("GPU memory, %", "gpu_memory_percent"),
            _spread("GPU temperature, °C", "gpu_temperature_c"),
            _spread("GPU power, W", "gpu_power_w"),
            _spread("Processors in use, %", "cpu_percent"),
            _spread("Host memory, %", "memory_percent"),
            Chart("Network, MiB/s", ("nodes/network_receive_mib_s/max", "nodes/network_send_mib_s/max")),
            Chart("Disks, MiB/s", ("nodes/disk_read_mib_s/max", "nodes/disk_write_mib_s/max")),
            Chart("Nodes that were heard", ("nodes/count",)),
        ),
    ),
)
PREDICTED = {
    "Speed": (Chart("Seconds a step: expected and measured", ("perf/predicted_step_time_s", "perf/step_time_s")),),
    "Memory": (
        Chart(
            "After the first step: expected and measured, GiB",
            ("plan/memory_predicted_gib", "plan/memory_measured_gib"),
        ),
    ),
}
"""Bars of single values beside the charts of a section."""
KNOWN = ("loss", "runtime", "samples_per_second")
"""Figures of an evaluation that have a chart already, or need none."""


def predictions_of(board: Board, section: Section) -> list[Chart]:
    """Bars of what was expected beside what was measured, where something was."""
    return [chart for chart in PREDICTED.get(section.title, ()) if chart.names[-1] in board.metrics]


def sections_of(board: Board) -> list[Section]:
    """The sections of a board without what was not logged; each metric of an evaluation has its chart."""
    return [section for section in (_of_board(one, board.metrics) for one in SECTIONS) if section.charts]


def _of_board(section: Section, logged: Sequence[str]) -> Section:
    charts = [*section.charts, *(_evaluations(logged) if section is SECTIONS[0] else ())]
    found = [Chart(chart.title, kept, chart.log) for chart in charts if (kept := _logged(chart, logged))]
    return Section(section.title, tuple(found))


def _logged(chart: Chart, logged: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in chart.names if name in logged)


def _evaluations(logged: Sequence[str]) -> Iterator[Chart]:
    """`eval/accuracy` and `test/accuracy` together, and so on."""
    found = {name.partition("/")[2] for name in logged if name.startswith(("eval/", "test/"))}
    for metric in sorted(found.difference(KNOWN)):
        yield Chart(metric.replace("_", " "), (f"eval/{metric}", f"test/{metric}"))
