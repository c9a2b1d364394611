"""The owner of a live terminal: draws a page of lines in place, until Ctrl-C or `q`.

The terminal's other screen is used, as `top` and `less` do, so that resizing, tmux and a slow line harm nothing: only
lines that changed are sent. In the end the last page is printed where the command was given. Terminals that cannot move
a cursor (TERM=dumb) and pipes have none of this: see `can_draw`.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from launcher.show.line import Line, cut_line
from launcher.show.show import Page

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
QUIT = (b"q", b"Q", b"\x03", b"\x04")


def can_draw(out: TextIO) -> bool:
    """Whether a page can be drawn in place there."""
    return out.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def is_plain(out: TextIO) -> bool:
    """Whether only ASCII is drawn: the encoding has no more, or the terminal's letters have not."""
    encoding = (out.encoding or "ascii").lower().replace("-", "")
    return not encoding.startswith("utf") or os.environ.get("TERM") in ("linux", "dumb", "vt100", "vt220")


def size_of(out: TextIO) -> tuple[int, int]:
    """Columns and lines; COLUMNS and LINES win, and 80 × 24 where nobody knows."""
    found = shutil.get_terminal_size()
    if not os.environ.get("COLUMNS"):
        with contextlib.suppress(OSError, ValueError):
            found = os.get_terminal_size(out.fileno())
    return found.columns or 80, found.lines or 24


class Screen:
    """A page on the terminal. Used as a context manager; `draw` shows, `wait` waits for the next page."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._page = Page(out)
        self._shown: list[str] = []
        self._size = (0, 0)
        self._last: Sequence[Line] = ()
        self._keys = _Keys()

    def __enter__(self) -> Screen:
        self._out.write(ENTER)
        self._keys.take()
        return self

    def __exit__(self, *_: object) -> None:
        self._keys.give_back()
        self._out.write(LEAVE)
        width = size_of(self._out)[0]
        for each in self._last:
            print(self._painted(cut_line(each, width)), file=self._out)
        self._out.flush()

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines; what does not fit below is left out."""
        size = size_of(self._out)
        if size != self._size:
            self._size, self._shown = size, []
            self._out.write("\x1b[2J")
        width, height = size
        self._last = lines
        painted = [self._painted(cut_line(each, width)) for each in lines[:height]]
        for place in range(max(len(painted), len(self._shown))):
            new = painted[place] if place < len(painted) else ""
            if place >= len(self._shown) or self._shown[place] != new:
                self._out.write(f"\x1b[{place + 1};1H{new}\x1b[K")
        self._shown = painted
        self._out.flush()

    def wait(self, seconds: float) -> bool:
        """Wait, less where the window was resized; False where a person pressed `q`."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._keys.pressed(min(left, 0.25)) in QUIT:
                return False
            if size_of(self._out) != self._size:
                return True
        return True

    def _painted(self, pieces: Line) -> str:
        return "".join(self._page.paint(text, style) for text, style in pieces).rstrip()


class _Keys:
    """What is typed, letter by letter and without an echo, where the input is this terminal."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def take(self) -> None:
        import termios
        import tty

        with contextlib.suppress(termios.error, OSError, ValueError):
            if os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
                return  # in the background, where the keys are somebody else's
            self._before = termios.tcgetattr(sys.stdin.fileno())
            tty.setcbreak(sys.stdin.fileno())

    def give_back(self) -> None:
        import termios

        if self._before is not None:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)

    def pressed(self, seconds: float) -> bytes:
        """A key within so many seconds, or nothing."""
        if self._before is None:
            time.sleep(seconds)
            return b""
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], seconds)
        if not ready:
            return b""
        key = os.read(sys.stdin.fileno(), 1)
        if not key:  # the terminal is gone
            self._before = None
        return key
