"""`python -m benchmarks [NAME …] [--runs N]`: run benchmarks, print their tables, keep them under results/."""

from __future__ import annotations

import argparse
from importlib import import_module

NAMES = (
    "latency",
    "first_step",
    "step_overhead",
    "packing",
    "ranks_ready",
    "throughput",
    "banking77",
    "gsm8k_methods",
    "sweep",
    "checkpoint",
    "resume",
    "activations",
    "memory_states",
    "estimate",
    "gpu_peaks",
    "auto",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}; all by default")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each side (default 5)")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(NAMES))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    for name in arguments.names or NAMES:
        import_module(f"benchmarks.{name}").main(arguments.runs)


if __name__ == "__main__":
    main()
