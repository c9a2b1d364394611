"""A command on a real pseudo-terminal, and what a person then sees: a small screen that understands what we send."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence

OWNER = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests in the background of a shell inherit that it is ignored
os.execv(sys.argv[1], sys.argv[1:])
"""
CUT_SHORT = re.compile(r"\x1b(?:\[\??[\d;]*)?$")
SEQUENCE = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])")


class Window:
    """What a terminal shows of a text. `styled`: colours were among it; `other`: the second screen is shown."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.lines = [""] * rows
        self.row = self.column = 0
        self.styled = self.other = self.was_other = False
        self.unknown: list[str] = []
        self._rest = ""

    def feed(self, text: str) -> None:
        """Show more of it; a sequence that is cut short waits for its rest."""
        text, self._rest = self._rest + text, ""
        if (cut := CUT_SHORT.search(text)) is not None:
            text, self._rest = text[: cut.start()], cut[0]
        place = 0
        for found in SEQUENCE.finditer(text):
            self._letters(text[place : found.start()])
            self._act(*found.groups())
            place = found.end()
        self._letters(text[place:])

    def _act(self, private: str, numbers: str, kind: str) -> None:
        if private:
            if numbers == "1049":
                self.other = kind == "h"
                self.was_other = self.was_other or self.other
                self.lines, self.row, self.column = [""] * self.rows, 0, 0
        elif kind == "H":
            row, _, column = numbers.partition(";")
            self.row, self.column = int(row or 1) - 1, int(column or 1) - 1
        elif kind == "K":
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif kind == "J":
            self.lines = [""] * self.rows
        elif kind == "m":
            self.styled = True
        else:
            self.unknown.append(f"{numbers}{kind}")

    def _letters(self, text: str) -> None:
        for letter in text:
            if letter == "\n":
                self.row, self.column = self.row + 1, 0
                if self.row >= self.rows:
                    self.lines, self.row = [*self.lines[1:], ""], self.rows - 1
            elif letter == "\r":
                self.column = 0
            else:
                assert self.column < self.columns, f"a line is longer than the window: {self.lines[self.row]!r}"
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
                self.column += 1

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip()


class OnTerminal:
    """A process whose input, output and errors are a pseudo-terminal of a size."""

    def __init__(self, argv: Sequence[str], env: dict[str, str], columns: int = 80, rows: int = 24) -> None:
        self._master, other = pty.openpty()
        self._resize(other, columns, rows)
        self.window = Window(columns, rows)
        self.raw = ""
        program = (sys.executable, "-c", OWNER, *argv)  # a session whose terminal this is, so that Ctrl-C reaches it
        self._process = subprocess.Popen(
            program, stdin=other, stdout=other, stderr=other, env=env, start_new_session=True
        )
        os.close(other)

    @staticmethod
    def _resize(descriptor: int, columns: int, rows: int) -> None:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        self.window = Window(columns, rows)
        self._resize(self._master, columns, rows)

    def until(self, seen: Callable[[Window], bool], seconds: float = 120.0) -> Window:
        """Read on until the window shows something."""
        deadline = time.monotonic() + seconds
        while not seen(self.window):
            assert time.monotonic() < deadline, f"never seen; the window shows:\n{self.window.text}"
            if not self._read():
                assert seen(self.window), f"ended before; the window shows:\n{self.window.text}"
        return self.window

    def end(self, seconds: float = 120.0) -> int:
        """Read to its end; the exit status."""
        deadline = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < deadline, f"does not end; the window shows:\n{self.window.text}"
        return self._process.wait(seconds)

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        """Whether there may be more."""
        ready, _, _ = select.select([self._master], [], [], 0.2)
        if not ready:
            return self._process.poll() is None
        try:
            content = os.read(self._master, 65536)
        except OSError:
            return False
        text = content.decode(errors="replace")
        self.raw += text
        self.window.feed(text)
        return bool(content)
