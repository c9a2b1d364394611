"""Interleaved measurements: A and B in turn, so that a machine whose speed drifts treats both alike.

On a shared CPU only ratios carry meaning; every result keeps the single values, so that the spread can be seen.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Comparison:
    """Seconds (or another figure) of ours and of peers, run by run, in the order they were taken."""

    figures: dict[str, list[float]]
    unit: str = "s"

    def median(self, name: str) -> float:
        return statistics.median(self.figures[name])

    def ratio(self, ours: str, peer: str) -> tuple[float, float, float]:
        """Lowest, median and highest of ours / peer, pair by pair."""
        ratios = sorted(a / b for a, b in zip(self.figures[ours], self.figures[peer], strict=True))
        return ratios[0], statistics.median(ratios), ratios[-1]


@dataclass
class Report:
    """One benchmark's table and its JSON."""

    name: str
    title: str
    comparison: Comparison
    ours: str
    targets: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The table as Markdown."""
        unit = self.comparison.unit
        rows = [
            f"## {self.title}",
            "",
            f"| what | median {unit} | lowest–highest | ours / it | target |",
            "|---|---|---|---|---|",
        ]
        for name, values in self.comparison.figures.items():
            ratio = ""
            if name != self.ours:
                low, middle, high = self.comparison.ratio(self.ours, name)
                ratio = f"{middle:.2f} ({low:.2f}–{high:.2f})"
            spread = f"{min(values):.3g}–{max(values):.3g}"
            rows.append(
                f"| {name} | {statistics.median(values):.3g} | {spread} | {ratio} | {self.targets.get(name, '')} |"
            )
        rows += ["", *(f"- {key}: {value}" for key, value in self.notes.items())]
        return rows

    def write(self) -> None:
        """Print the table and keep it as JSON under `benchmarks/results/`."""
        RESULTS.mkdir(exist_ok=True)
        content = {
            "name": self.name,
            "title": self.title,
            "command": f"python -m benchmarks {self.name}",
            "machine": machine(),
            "unit": self.comparison.unit,
            "ours": self.ours,
            "figures": self.comparison.figures,
            "targets": self.targets,
            "notes": self.notes,
        }
        (RESULTS / f"{self.name}.json").write_text(json.dumps(content, indent=2) + "\n")
        print("\n".join(self.lines()), flush=True)


def interleave(measured: dict[str, Callable[[], float]], runs: int, warmup: int = 1, unit: str = "s") -> Comparison:
    """Call every measurement in turn, `warmup` rounds uncounted and `runs` rounds counted."""
    figures: dict[str, list[float]] = {name: [] for name in measured}
    for turn in range(warmup + runs):
        for name, take in measured.items():
            value = take()
            if turn >= warmup:
                figures[name].append(value)
            print(f"{name}: {value:.3f} {unit}{'' if turn >= warmup else ' (warm-up)'}", file=sys.stderr, flush=True)
    return Comparison(figures, unit)


def seconds_of(command: list[str], env: dict[str, str] | None = None, cwd: Path | None = None) -> float:
    """Wall seconds of a whole process.

    Raises:
        RuntimeError: it failed; its output is in the message.
    """
    env = dict(os.environ if env is None else env)
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    begin = time.perf_counter()
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return seconds


def draw_curves(curves: dict[str, list[tuple[int, float]]], path: Path, loss: str, **more: Any) -> None:
    """Losses over the steps as SVG, a line for each name; `more` are matplotlib's settings of axes."""
    from matplotlib.figure import Figure

    path.parent.mkdir(exist_ok=True)
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        steps, losses = zip(*curve, strict=True)
        axes.plot(steps, losses, marker="." if len(curve) < 50 else "", linewidth=1.2, label=name)
    axes.set(xlabel="step", ylabel=loss, **more)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


def machine() -> dict[str, str]:
    """Processor, cores, GPUs and the versions that matter."""
    packages = ("torch", "deepspeed", "transformers", "hydra-core", "accelerate", "muster")
    found = {name: metadata.version(name) for name in packages if _installed(name)}
    parts = {"processor": _processor(), "cores": str(os.cpu_count()), **_gpus()}
    return {**parts, "python": platform.python_version(), **found}


def _gpus() -> dict[str, str]:
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"gpu": ", ".join(filter(None, names))}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
