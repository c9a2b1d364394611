"""The data step as the agents see it: a child process on node 0, a file for the others.

A child, because tokenising starts threads and does tensor work, which would spoil the agent for forking ranks.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from conf.cause import classify_exit, describe_exit
from conf.files import write_atomically
from conf.layout import Attempt, RunFolder
from conf.outcome import Cause, Failure
from conf.schema import Access
from train.metrics.journal import Journal
from train.node.env import read_node_env
from train.node.kernel import KernelWatch
from train.node.patient import DATA_STEP, DataWatch
from train.node.process import die_with_parent
from train.node.stacks import stacks_file, write_stacks_on_request
from train.node.watch import record_failure
from train.pulse import PULSE, pulse_file

POLL_S = 0.1
MARKER_POLL_S = 0.5
MARKER_LIMIT_S = 6 * 3600.0
SAY_EVERY_S = 60.0
END_S = 3.0


class NodeLostError(Exception):
    """Another node's agent failed or cannot be reached; `nodes` are those of which nothing is heard any more."""

    cause = Cause.lost_peer

    def __init__(self, message: str, nodes: Sequence[int] = ()):
        super().__init__(message)
        self.nodes = list(nodes)


class StopAskedError(Exception):
    """STOP appeared before the ranks were started."""


class DataStepError(Exception):
    """The data step failed; `failure` is its own word."""

    def __init__(self, failure: Failure):
        super().__init__(f"the data step failed: {failure.message}")
        self.failure = failure
        self.cause = failure.cause


class DataStep:
    """The child process that prepares the data. Used as a context manager: it never outlives it."""

    def __init__(self, argv: list[str], folder: RunFolder, attempt: Attempt, watch: DataWatch):
        self._argv = argv
        self._folder = folder
        self._attempt = attempt
        self._watch = watch

    def __enter__(self) -> DataStep:
        self._kernel = KernelWatch()
        self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, start_new_session=True)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                return
            os.killpg(self._process.pid, number)
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                continue

    def wait(self) -> None:
        """Wait for the data.

        Raises:
            DataStepError: with what it said, how it ended, or where it hangs.
            StopAskedError: STOP is there.
        """
        while self._process.poll() is None:
            if self._folder.stop.exists():
                raise StopAskedError
            hang = self._watch.look(self._process.pid)
            if hang is not None:
                raise DataStepError(hang)
            time.sleep(POLL_S)
        if self._process.returncode != 0:
            raise DataStepError(self._read_failure(self._process.returncode))

    def _read_failure(self, status: int) -> Failure:
        try:
            return msgspec.json.decode(self._attempt.data_failure.read_bytes(), type=Failure)
        except (OSError, msgspec.DecodeError):
            by_signal = -status if status < 0 else None
            return Failure(
                rank=-1,
                node=0,
                host=socket.gethostname(),
                time=time.time(),
                cause=classify_exit(status, by_signal, self._kernel.ran_out_of_memory()),
                message=f"the data step ended without a word: {describe_exit(status, by_signal)}",
                pid=self._process.pid,
            )


def run_data_step(folder: RunFolder, attempt: int | None) -> int:
    """The child's side: prepare the data, with progress as events; exit status.

    `attempt` is None where a person or a CPU job prepares before any attempt: then progress is printed alone.
    """
    if attempt is not None:
        die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        scratch = read_node_env(os.environ).scratch
        PULSE.attach(pulse_file(scratch, DATA_STEP))
        write_stacks_on_request(stacks_file(scratch, DATA_STEP))
    journal = Journal(folder, attempt or 0, active=attempt is not None)
    try:
        from conf.record import read_plan
        from train.data.prepare import prepare

        plan = read_plan(folder.run_json)
        os.umask(0o077 if plan.config.access is Access.private else 0o027)
        first = not folder.data_json.exists()
        for warning in prepare(plan, folder, _Report(journal)).warnings if first else []:
            journal.warning(warning)
    except Exception as error:
        if attempt is None:
            print(f"muster: the data step failed: {error}", file=sys.stderr)
        else:
            record_failure(folder.attempt(attempt).data_failure, error, rank=-1, node=0)
        return 1
    return 0


def run_documents_step(folder: RunFolder) -> int:
    """Prepare the documents alone, in a folder with nothing but a run.json; exit status."""
    try:
        from conf.record import read_plan
        from train.data.prepare import prepare_documents

        plan = read_plan(folder.run_json)
        os.umask(0o077 if plan.config.access is Access.private else 0o027)
        prepare_documents(plan, folder, _Report(Journal(folder, 0, active=False)))
    except Exception as error:  # as in a run, whatever it is
        print(f"muster: the data step failed: {error}", file=sys.stderr)
        return 1
    return 0


class _Report:
    """Progress of the data step: an event at most once a second, a line for each new part."""

    def __init__(self, journal: Journal):
        self._journal = journal
        self._part = ""

    def __call__(self, part: str, done: int, total: int) -> None:
        if part != self._part:
            self._part = part
            print(f"muster: data: {part}", flush=True)
        self._journal.phase("prepare", done, total, part)


def publish(marker: Path, **content: object) -> None:
    """Tell the other nodes: `port=…` where the agents meet, `error=…`, or `stop=True`."""
    write_atomically(marker, json.dumps(content).encode() + b"\n", marker.parent.stat().st_mode & 0o666)


def wait_for_marker(attempt: Attempt, head: str, limit_s: float = MARKER_LIMIT_S) -> int:
    """Wait for node 0's word that the data is there: the port where the agents meet.

    Raises:
        NodeLostError: node 0 failed, or said nothing within `limit_s`.
        StopAskedError: node 0 saw STOP.
    """
    begun = said = time.monotonic()
    while True:
        content = _read_marker(attempt.data_ready)
        if content is not None:
            break
        now = time.monotonic()
        if now - begun > limit_s:
            raise NodeLostError(f"node 0 ({head}) did not write {attempt.data_ready} within {limit_s:.0f} s")
        if now - said >= SAY_EVERY_S:
            said = now
            waited = f"{now - begun:.0f} s of at most {limit_s:.0f} s"
            print(f"muster: waiting for the data step on {head} ({attempt.data_ready}): {waited}", flush=True)
        time.sleep(MARKER_POLL_S)
    if content.get("stop"):
        raise StopAskedError
    if "port" not in content:
        raise NodeLostError(f"node 0 ({head}) failed: {content.get('error', 'it did not say why')}")
    return int(content["port"])


def _read_marker(path: Path) -> dict[str, int | str | bool] | None:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return content if isinstance(content, dict) else {}
