"""Slurm's way to write a length of time."""

from __future__ import annotations

import re

UNLIMITED = frozenset({"infinite", "unlimited"})
FORMS = "minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, days-hours:minutes:seconds"
_FORM = re.compile(
    r"(?:(?P<days>\d{1,5})-)?(?P<first>\d{1,7})(?::(?P<second>\d{1,7}))?(?::(?P<third>\d{1,7}))?", re.ASCII
)


def seconds(text: str) -> int | None:
    """How many seconds a time limit such as `12:30:00`, `2-00:00:00` or `90` (minutes) is; None where it is unlimited.

    Forms: sbatch(1), `--time`.

    Raises:
        ValueError: it has none of Slurm's forms, or is zero.
    """
    word = text.strip()
    if word.lower() in UNLIMITED:
        return None
    found = _FORM.fullmatch(word)
    if found is None:
        raise ValueError(f"{text!r} is not a time of Slurm's: {FORMS}")
    days, first, second, third = (int(part or 0) for part in found.groups())
    in_hours = found["days"] is not None or found["third"] is not None
    total = days * 86400 + (first * 3600 + second * 60 + third if in_hours else first * 60 + second)
    if total == 0:
        raise ValueError(f"{text!r} is no time at all; sbatch takes 0 as unlimited: write 'UNLIMITED'")
    return total


def written(total_s: int) -> str:
    """`total_s` seconds in the form days-hours:minutes:seconds, without days where there is none."""
    days, rest = divmod(total_s, 86400)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock
