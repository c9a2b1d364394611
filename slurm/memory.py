"""Slurm's way to write an amount of memory."""

from __future__ import annotations

import re

FORM = re.compile(r"(\d+)(?:([KMGT])B?)?", re.ASCII | re.IGNORECASE)
"""A whole number and its unit, MiB where there is none: sbatch (22.05) refuses fractions, and a B alone."""
