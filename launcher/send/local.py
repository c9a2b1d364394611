"""A run on this machine, in the foreground: starts `job.sh` in a session of its own, waits, turns Ctrl-C into a stop.

The first Ctrl-C writes `STOP`, so that the ranks save and end; the second ends the agent and its ranks at once. Losing
the terminal, or the reader of a pipe, counts as the first: a run of `muster run` belongs to its terminal, one of
`muster submit` does not.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from conf.layout import Attempt, RunFolder
from conf.outcome import Outcome, read_outcome
from launcher.problems import MusterError
from launcher.runs.read import last_text_lines, list_attempts, read_job
from launcher.runs.rundir import require_safe
from launcher.send.interrupts import Interrupts, interrupt
from launcher.show.progress import Progress

POLL_S = 0.1

STOPPING = "stopping: the ranks save and end; Ctrl-C again ends them at once"
ENDING = "ending at once"


@dataclass(frozen=True)
class LocalEnd:
    """How a local run came back: exit status of `job.sh`, its attempt (None: it never made one), its last words."""

    exit_status: int
    attempt: Attempt | None
    outcome: Outcome | None
    words: list[str]


def start_script(folder: RunFolder) -> subprocess.Popen[bytes]:
    """Start `job.sh` in a session of its own, without a word; its logs are in the run folder.

    Raises:
        MusterError: others could have written the folder.
    """
    require_safe(folder)
    return subprocess.Popen(
        ["bash", str(folder.job_sh)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def run_local(folder: RunFolder, script: list[str], total_steps: int | None) -> LocalEnd:
    """Run `script` (normally `bash RUN/job.sh`) to its end with a live line.

    Raises:
        MusterError: bash could not be started, or others could have written the folder.
    """
    require_safe(folder)
    before = list_attempts(folder)
    with tempfile.TemporaryDirectory(prefix="muster-") as scratch:
        words = Path(scratch) / "words"
        with words.open("wb") as file, Progress(folder, total_steps) as progress:
            interrupts = Interrupts()
            with interrupts.installed():
                try:
                    process = subprocess.Popen(
                        script, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
                    )
                except OSError as error:
                    raise MusterError(f"cannot start {script[0]}: {error.strerror}") from error
                while process.poll() is None:
                    try:
                        for turn in interrupts.new():
                            interrupt(folder, process, turn)
                            progress.say(ENDING if turn > 1 else STOPPING)
                        progress.update()
                    except BrokenPipeError:
                        interrupts.lose_reader()
                    time.sleep(POLL_S)
        attempt = next(iter(reversed(list_attempts(folder))), None)
        if attempt is not None and before and attempt.number <= before[-1].number:
            attempt = None
        outcome = read_outcome(folder.outcome)
        current = outcome if outcome and attempt and outcome.attempt == attempt.number else None
        return LocalEnd(process.returncode, attempt, current, last_text_lines(words, 20))


def find_agent(attempt: Attempt, host: str) -> int | None:
    """Process id of a live local attempt on this host; None where it has ended, is elsewhere or belongs to Slurm.

    A process id may have been used again since: the process has to name the run folder, or be what body.sh became.
    """
    job = read_job(attempt)
    pid = job.get("pid")
    if not isinstance(pid, int) or not str(job.get("job", "")).startswith("local") or job.get("host") != host:
        return None
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None if sys.platform == "linux" or not _exists(pid) else pid
    return pid if any(_means(word, attempt.folder.parent.parent) for word in command.split(b"\0") if word) else None


def _means(word: bytes, folder: Path) -> bool:
    """Whether an argument is the folder, which may be called by another name (over a link) here than there."""
    try:
        return Path(os.fsdecode(word)).samefile(folder)
    except OSError:
        return False


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
