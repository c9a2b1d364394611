"""Numbers as a person reads them."""

from __future__ import annotations

import time


def duration(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    total = max(0, round(seconds))
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    if total < 86400:
        return f"{total // 3600} h {total % 3600 // 60} min"
    return f"{total // 86400} d {total % 86400 // 3600} h"


def short_duration(seconds: float) -> str:
    """The same for a narrow column: `42s`, `3m 05s`, `2h 10m`, `3d 4h`."""
    total = max(0, round(seconds))
    if total < 60:
        return f"{total}s"
    if total < 3600:
        return f"{total // 60}m {total % 60:02}s"
    if total < 86400:
        return f"{total // 3600}h {total % 3600 // 60:02}m"
    return f"{total // 86400}d {total % 86400 // 3600}h"


def clock(when: float, now: float) -> str:
    """A moment as a person says it: `14:05:09` within a day of now, else `25 Nov 14:05`."""
    form = "%H:%M:%S" if abs(when - now) < 86400 else "%d %b %H:%M"
    return time.strftime(form, time.localtime(when))


def count(number: float) -> str:
    """`812`, `12.3k`, `1.24M`, `8.03B`: three digits that count."""
    for limit, divisor, unit in ((1e3, 1, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M"), (1e12, 1e9, "B"), (1e15, 1e12, "T")):
        if abs(number) < limit:
            return f"{number / divisor:.3g}{unit}"
    return f"{number:.3g}"


def size(amount: float) -> str:
    """Bytes in powers of 1024: `812 B`, `1.5 KiB`, `3.2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(amount) < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
