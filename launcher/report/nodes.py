"""What the nodes of a run did while it went on: the least and the most of them over the minutes. Pure."""

from __future__ import annotations

from launcher.figures.plot import Band, Curve, Plot, plot_picture
from launcher.report.story import Story

GIB = 1 << 30
MEMORY = "memory_gib"
SHOWN = (
    ("gpu_util_percent", "GPUs busy, %"),
    ("gpu_memory_percent", "GPU memory in use, %"),
    ("gpu_temperature_c", "GPU temperature, °C"),
    ("cpu_percent", "processors busy, %"),
    (MEMORY, "host memory of a node, GiB"),
    ("network_receive_mib_s", "received over the network, MiB/s"),
    ("disk_write_mib_s", "written to disks, MiB/s"),
)


def node_pictures(story: Story) -> list[str]:
    """A picture a figure that moves, of the nodes with the least and the most of it."""
    found = []
    for name, title in SHOWN:
        most = _points(story, f"nodes/{name}/max")
        if len(most) < 2 or not any(value for _, value in most):
            continue
        least = _points(story, f"nodes/{name}/min")
        curves = [Curve("most", most, "c0")]
        if least != most:
            curves.insert(0, Curve("least", least, "c2"))
        band = _planned(story) if name == MEMORY else None
        found.append(plot_picture(Plot(title, curves, across="minute", band=band, from_zero=True)))
    return found


def _planned(story: Story) -> Band | None:
    memory = story.standing.plan.memory
    return Band("planned", memory.host.low / GIB, memory.host.high / GIB) if memory and memory.host else None


def _points(story: Story, name: str) -> list[tuple[float, float]]:
    """Minutes since the first look and values."""
    return [(seconds / 60, value) for seconds, value in story.system.points.get(name, [])]
