"""The budgets in `job/settings`, which the job script reads too."""

from __future__ import annotations

from conf.layout import RunFolder
from train.node.decide import Settings


def read_settings(folder: RunFolder) -> Settings:
    """The budgets in `job/settings`, which the job script reads too."""
    try:
        lines = folder.job.settings.read_text().splitlines()
    except FileNotFoundError:
        return Settings()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    numbers = {name: int(text) for name, text in values.items() if text.isdigit()}
    return Settings(
        goes_on=values.get("continuation", "requeue") in ("requeue", "chain"),
        max_requeues=numbers.get("max_requeues", Settings.max_requeues),
        leave_out=numbers.get("leave_out", Settings.leave_out),
    )
