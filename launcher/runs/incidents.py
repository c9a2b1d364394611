"""What went wrong with the numbers of a run, from its events: steps left out, losses that jumped, roll backs."""

from __future__ import annotations

from conf.layout import RunFolder
from launcher.runs.read import read_lines

KINDS = {
    "non_finite": ("step left out", "steps left out"),
    "spike": ("jump of the loss", "jumps of the loss"),
    "roll_back": ("roll back", "roll backs"),
}
"""Values of `about` in warnings of `events.jsonl`, counted by step."""


def incident_lines(folder: RunFolder) -> list[str]:
    """A line a kind: how many there were, and the last in its own words; a step that was made again counts once."""
    found: dict[str, dict[int, str]] = {about: {} for about in KINDS}
    for line in read_lines(folder.events):
        about, step = line.get("about"), line.get("step")
        if line.get("event") == "warning" and about in found and isinstance(step, int):
            found[about][step] = str(line.get("text", ""))
    return [
        f"{len(steps)} {KINDS[about][len(steps) > 1]}; the last: {list(steps.values())[-1]}"
        for about, steps in found.items()
        if steps
    ]
