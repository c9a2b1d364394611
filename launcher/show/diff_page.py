"""What `muster diff` prints: two runs side by side, part by part, only what differs."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.compare.difference import Difference, rows_of
from launcher.show.line import Line, cut, cut_middle, line, width_of

WIDEST_KEY = 40
LEAST = 12


def diff_lines(one: str, other: str, found: Difference, width: int) -> list[Line]:
    """A table a part; what does not fit in `width` columns goes below its key."""
    lines = [line(("- ", "bad"), (one, "bold")), line(("+ ", "good"), (other, "bold"))]
    for part, changed in found.parts.items():
        if not changed:
            continue
        lines += [line(""), line((part, "bold"), (f"  {found.same[part]} more are the same", "dim"))]
        lines += _part(rows_of(changed), width)
    same = [f"{part} ({count})" for part, count in found.same.items() if not found.parts[part] and count]
    if same:
        lines += [line(""), line((f"the same: {', '.join(same)}", "dim"))]
    return lines


def _part(rows: Sequence[tuple[str, str, str, str]], width: int) -> list[Line]:
    key_room = min(WIDEST_KEY, max(width_of(row[0]) for row in rows))
    left = max(width_of(row[1]) for row in rows)
    lines: list[Line] = []
    for key, one, other, change in rows:
        label = f"  {cut_middle(key, key_room):<{key_room}}"
        if len(label) + left + width_of(other) + len(change) + 8 <= width:
            beside = (f"  {one or '(none)':>{left}}", "bad"), (" → ", "dim"), (other or "(none)", "good")
            lines.append(line((label, "label"), *beside, (f"  {change}", "dim")))
            continue
        room = max(LEAST, width - 6)
        lines.append(line((f"  {key}", "label"), (f"  {change}", "dim")))
        lines.append(line(("    - ", "bad"), cut(one or "(none)", room)))
        lines.append(line(("    + ", "good"), cut(other or "(none)", room)))
    return lines
