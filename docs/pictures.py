"""Draws the pictures of the README from real output: `python docs/pictures.py NAME COMMAND …` writes docs/NAME.svg."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 110


def main() -> None:
    name, command = sys.argv[1], sys.argv[2:]
    env = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    words = [Path(command[0]).name, *command[1:]]
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(f"$ {' '.join(words)}"))
        console.print(Text.from_ansi(done.stdout))
        console.save_svg(str(Path(__file__).parent / f"{name}.svg"), title="muster")


if __name__ == "__main__":
    main()
