"""A rank's end of the process that writes its checkpoints: started when it is needed, and again after it was lost."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from multiprocessing.connection import Connection
from pathlib import Path

from conf.cause import describe_exit
from train.checkpoint.jobs import Answer, Job
from train.node.start import own_argv

VERB = "write-checkpoints"


class Writer:
    """At most one job at a time: `send` it, then ask for its `answer` until there is one."""

    def __init__(self, run: Path, descriptor: int):
        """`descriptor` is that of the rank's arena, which the process inherits."""
        self._run = run
        self._descriptor = descriptor
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    @property
    def pid(self) -> int | None:
        """The process, where it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process unless it runs.

        The kernel ends it with the thread that started it, so that has to be one that lasts.

        Raises:
            OSError: no process can be made.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self.kill()
        ours, its = socket.socketpair()
        with its:
            try:
                self._process = subprocess.Popen(
                    own_argv(VERB, self._run),
                    stdin=its.fileno(),
                    stdout=subprocess.DEVNULL,  # its last words, on standard error, are the rank's
                    pass_fds=[self._descriptor],
                    restore_signals=False,
                )
            except OSError:
                ours.close()
                raise
        self._connection = Connection(ours.detach())

    def send(self, job: Job) -> None:
        """Give the process a job; where it cannot be reached, that is the job's answer."""
        with contextlib.suppress(OSError):
            self.start()
            if self._connection is not None:
                self._connection.send(job)

    def answer(self) -> Answer | None:
        """What came of the job, or None while it is being done. A process that is gone is an answer too."""
        if self._connection is None:
            return Answer(error="the process that writes checkpoints cannot be started")
        try:
            if not self._connection.poll():
                return None
            answer: Answer = self._connection.recv()
        except (EOFError, OSError):
            return Answer(error=f"the process that writes checkpoints {self._end()}")
        return answer

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
        self._end()

    def _end(self) -> str:
        """Let go of a process that is ending; how it ended, in words."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is None:
            return "is gone"
        status = self._process.wait()
        self._process = None
        return describe_exit(status, None) if status >= 0 else describe_exit(None, -status)
