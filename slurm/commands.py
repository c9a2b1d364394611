"""Running one of Slurm's commands: argument list, clean environment, time limit, patience."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from slurm.refusals import culprit

SCRUBBED = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SQUEUE_", "SCANCEL_", "SACCT_", "SINFO_", "SCONTROL_")
"""Variables of these prefixes change what the commands do, and inside a job they describe that job."""

AWAY = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "Connection timed out",
    "Zero Bytes were transmitted",
    "Transport endpoint is not connected",
    "Slurm backup controller in standby mode",
    "Unexpected message received",
    "Munge decode failed",
    "Munge encode failed",
    "temporarily unable",
)
"""What the commands say while the controller is away, restarting or too busy; asking again helps."""

TIMEOUT_S = 60.0


class SlurmError(Exception):
    """A command of Slurm's failed. `stderr` is what it said, word for word; `option` the sbatch option it is about."""

    def __init__(self, argv: Sequence[str], stderr: str, status: int | None = None) -> None:
        self.argv = list(argv)
        self.stderr = stderr.strip()
        self.status = status
        self.option = culprit(self.stderr)
        super().__init__(self.stderr or f"{argv[0]} ended with status {status}")

    @property
    def away(self) -> bool:
        """Whether the controller could not be reached, so that the same question may be answered later."""
        return any(words in self.stderr for words in AWAY)


class SlurmMissingError(SlurmError):
    """The command is not installed here."""


@dataclass(frozen=True)
class Answer:
    """What a command printed; it ended with status 0."""

    stdout: str
    stderr: str


def environment(slurm_conf: str | None, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for Slurm's commands: the caller's own without Slurm's, and the SLURM_CONF given or inherited."""
    source = os.environ if inherited is None else inherited
    clean = {name: value for name, value in source.items() if not name.startswith(SCRUBBED)}
    conf = slurm_conf or source.get("SLURM_CONF")
    return {**clean, "SLURM_CONF": conf} if conf else clean


def run_once(argv: Sequence[str], slurm_conf: str | None, timeout_s: float = TIMEOUT_S) -> Answer:
    """Run `argv`.

    Raises:
        SlurmMissingError: it is not installed.
        SlurmError: it failed or took longer than `timeout_s`.
    """
    variables = environment(slurm_conf)
    if argv[0] != "sbatch":
        # sbatch hands its own environment to the job, the others only print.
        variables["LC_ALL"] = "C"
    try:
        done = subprocess.run(
            argv,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except FileNotFoundError as error:
        raise SlurmMissingError(argv, f"{argv[0]} is not installed on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(argv, f"{argv[0]}: Socket timed out after {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise SlurmError(argv, done.stderr, done.returncode)
    return Answer(done.stdout, done.stderr)


def run_patiently(argv: Sequence[str], slurm_conf: str | None, patience_s: float) -> Answer:
    """As `run_once`, and again with growing pauses while the controller is away, for `patience_s` in total.

    Only for commands that may be repeated.
    """
    deadline = time.monotonic() + patience_s
    for pause in pauses():
        try:
            return run_once(argv, slurm_conf)
        except SlurmError as error:
            if not error.away or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
    raise AssertionError("the pauses do not end")


def pauses(first_s: float = 0.5, largest_s: float = 15.0) -> Iterator[float]:
    """Seconds between tries, each twice the last, without end."""
    pause = first_s
    while True:
        yield pause
        pause = min(2 * pause, largest_s)
