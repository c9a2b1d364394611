"""The pre-flight as a node's agent sees it: a child process beside the data step and the imports.

A child, because a driver or a file system that hangs must not hang the agent, and threads would spoil it for forking.
"""

from __future__ import annotations

import subprocess
import time

import msgspec

from conf.layout import RunFolder
from conf.outcome import Cause
from conf.preflight import Preflight
from conf.record import Plan
from train.node.start import own_argv

SLACK_S = 5.0
"""How much longer than its limit the agent gives the child: to start, and to end."""


class BadNodeError(Exception):
    """The pre-flight says that this node should not be used."""

    cause = Cause.bad_node


class Lookout:
    """The child process that looks at the node. Used as a context manager: it never outlives it."""

    def __init__(self, folder: RunFolder, plan: Plan):
        self._argv = own_argv("preflight", folder.path)
        self._limit_s = plan.config.health.preflight.limit_s

    def __enter__(self) -> Lookout:
        self._begun = time.monotonic()
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def wait(self) -> None:
        """Wait for what it found; what it could not find out in time is no failure.

        Raises:
            BadNodeError: the node fails.
        """
        left = self._limit_s + SLACK_S - (time.monotonic() - self._begun)
        try:
            said, _ = self._process.communicate(timeout=max(0.1, left))
            found = msgspec.json.decode(said, type=Preflight)
        except subprocess.TimeoutExpired:
            print(f"muster: the pre-flight did not end within {self._limit_s:.0f} s: not judged", flush=True)
            return
        except msgspec.DecodeError:
            print("muster: the pre-flight ended without a word: not judged", flush=True)
            return
        if found.failed:
            raise BadNodeError(f"pre-flight of {found.host}: {found.in_words()}")
        print(f"muster: pre-flight of {found.host}: {len(found.checks)} checks in {found.seconds:.1f} s", flush=True)
