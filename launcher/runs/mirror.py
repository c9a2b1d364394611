"""Where a run is on W&B, as its events tell it."""

from __future__ import annotations

from conf.layout import RunFolder
from launcher.runs.read import read_lines


def page_on_wandb(folder: RunFolder) -> str | None:
    """The address of the run's page; None where it was never tracked online."""
    told = [line.get("url") for line in read_lines(folder.events) if line.get("event") == "tracked"]
    return next((str(url) for url in reversed(told) if url), None)
