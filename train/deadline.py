"""When the time of a job is nearly up: by what this run's own steps and saves take, as measured."""

from __future__ import annotations

import time
from contextlib import suppress

from conf.files import write_atomically
from conf.layout import RunFolder
from conf.timing import Timing, read_timing, write_timing

LARGEST_SHARE = 0.5
"""Of the job's time that may be spared for its end, however long a save takes."""


class Deadline:
    """The end of a job (seconds since 1970), and how long before it the run has to stop; without one it only measures.

    Once a save was measured, in this attempt or an earlier one, the file `lead` of the attempt says that rank 0 watches
    the time; until then the scheduler's own warning stands. While `saving`, a save is under way that has to end before
    the stop's own begins.
    """

    def __init__(self, folder: RunFolder, attempt: int, end: float | None):
        self._path = folder.timing
        self._lead_path = folder.attempt(attempt).lead
        self._end = end
        self._begun = time.time()
        self._said = ""
        self.saving = False
        self.timing: Timing = read_timing(self._path)

    def is_near(self, now: float) -> bool:
        """Whether the run has to be told to stop now."""
        lead = self._lead_s(self.timing.save_s if self.saving else 0.0)
        return self._end is not None and lead is not None and now >= self._end - lead

    def add_save(self, seconds: float, size: int) -> None:
        """A save that was made: note it for this attempt's end, the next attempts and the next submit."""
        self.timing.add_save(seconds, size)
        with suppress(OSError):  # a full disk; the next save tries again
            write_timing(self._path, self.timing)
        self.say()

    def say(self) -> None:
        """Tell the job script how long before the end the run stops by itself, where that is known."""
        lead = self._lead_s()
        text = "" if lead is None else f"{lead:.0f}"
        if self._end is not None and text and text != self._said:
            with suppress(OSError):  # the scheduler's warning stands
                write_atomically(self._lead_path, f"{text}\n".encode(), self._path.parent.stat().st_mode & 0o666)
                self._said = text

    def _lead_s(self, more_s: float = 0.0) -> float | None:
        lead = self.timing.lead_s
        if lead is None or self._end is None:
            return lead
        return min(lead + more_s, LARGEST_SHARE * (self._end - self._begun))
