"""The static script that runs a job, as it ships."""

from __future__ import annotations

from importlib import resources


def read_body() -> bytes:
    """The bytes of `body.sh`."""
    return resources.files("slurm").joinpath("body.sh").read_bytes()
