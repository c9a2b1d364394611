"""Draws the pictures of the documents from real output: `python docs/pictures.py` writes docs/plan.svg, docs/run.svg,
docs/figures/status.svg (a run of the demo while it goes on), docs/figures/report.png (its report, in Chromium) and
docs/figures/dashboard.svg (the charts that its dashboard on W&B has, by what `--dry-run` prints).

The plan is that of a folder with a Llama's config.json and some data, made for the picture; the run is the demo. Needs
what `muster run` needs, and two minutes. `python docs/pictures.py plan` draws one of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from launcher.runs.rundir import list_runs
from launcher.show.line import cut_line
from launcher.show.show import Page
from launcher.watch.live import seen
from launcher.watch.one_run import run_page
from launcher.watch.watcher import Watcher

DOCS = Path(__file__).parent
FIGURES = DOCS / "figures"
WIDTH = 100
LETTER, LINE, MARGIN, BAR = 8.43, 19, 22, 24
COLOURS: dict[int | None, str] = {6: "#5cc8dc", 3: "#e5c07b", 5: "#b48ead", 2: "#7fc97f", 1: "#e06c75"}
DIM = "#8b93a3"
PLAN = (
    "muster plan model=llama3.1-8b data.train_file=chats.jsonl data.validation_size=0.02 "
    "train.global_batch_size=512 cluster=mysite cluster.nodes=2"
)
SITE = """\
defaults: [slurm, _self_]
account: abc123
partition: gpu
gpus_per_node: 8
gres: gpu:h100:8
cpus_per_task: 96
mem: '0'
time: '24:00:00'
"""
ABOUT_A_ROW = "Explain in two sentences why the sky is blue, and why it turns red when the sun goes down. " * 12


def main() -> None:
    wanted = sys.argv[1:] or ["plan", "run", "status", "report", "dashboard"]
    with tempfile.TemporaryDirectory(prefix="picture-") as place:
        home = Path(place) / "ada"
        project = home / "project"
        (home / ".config" / "muster" / "cluster").mkdir(parents=True)
        (home / ".config" / "muster" / "cluster" / "mysite.yaml").write_text(SITE)
        project.mkdir()
        rows = ({"prompt": f"{number}. {ABOUT_A_ROW}", "response": ABOUT_A_ROW} for number in range(40_000))
        (project / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if "plan" in wanted:
            draw("plan", PLAN, project, home, before="Host and disk")
        if "run" in wanted:
            draw("run", "muster run", project, home)
        if {"status", "report", "dashboard"} & set(wanted):
            watch(project, home, wanted)


def draw(name: str, command: str, project: Path, home: Path, before: str = "\0") -> None:
    """Run the command in the project and write what it said, up to `before`, as docs/NAME.svg."""
    env = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "HOME": str(home)}
    words = [sys.executable, "-m", *command.split()]
    done = subprocess.run(words, env=env, cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    cut = done.stdout.partition(before)[0]
    cut = cut.replace(str(home.parent), "/home").removesuffix("\x1b[1m").rstrip()
    (DOCS / f"{name}.svg").write_text(picture(Text.from_ansi(f"\x1b[1m$ {command}\x1b[0m\n{cut}")))


def watch(project: Path, home: Path, wanted: list[str]) -> None:
    """Start the demo; draw `muster status -w` of it at step 70, and its report at its end."""
    env = os.environ | {"HOME": str(home)}
    words = [sys.executable, "-m", "muster", "run", "experiment=demo", "name=greetings", "tracking=none"]
    with subprocess.Popen(words, env=env, cwd=project, stdout=subprocess.DEVNULL) as run:
        if "status" in wanted:
            lines = page_at(project, 70)
            shown = "\n".join(lines).replace(str(home.parent), "/home")
            command = "\x1b[1m$ muster status greetings -w\x1b[0m\n"
            FIGURES.mkdir(exist_ok=True)
            (FIGURES / "status.svg").write_text(picture(Text.from_ansi(command + shown)))
        if run.wait():
            raise SystemExit("the demo failed")
    if "report" in wanted:
        report(project, env)
    if "dashboard" in wanted:
        words = [sys.executable, "-m", "muster", "dashboard", "greetings", "--dry-run"]
        said = subprocess.run(words, env=env, cwd=project, check=True, capture_output=True).stdout
        bank = json.loads(said)["workspace"]["spec"]["section"]["panelBankConfig"]
        (FIGURES / "dashboard.svg").write_text(layout(bank["sections"]))


def page_at(project: Path, step: int) -> list[str]:
    """The lines of the live page, with their colours, as soon as the run has made so many steps."""
    os.environ["FORCE_COLOR"] = "1"
    watcher = Watcher(lambda: list_runs(project / "runs"), ended_s=0.0)
    while True:
        look = watcher.look()
        if look.standings and look.standings[0].step >= step:
            page, lines = Page(sys.stdout), run_page(seen(watcher, look), WIDTH, 34, plain=False)
            return ["".join(page.paint(*piece) for piece in cut_line(pieces, WIDTH)) for pieces in lines]
        time.sleep(0.2)


def report(project: Path, env: dict[str, str]) -> None:
    """Write the run's report and have Chromium draw its top."""
    subprocess.run([sys.executable, "-m", "muster", "report", "greetings"], env=env, cwd=project, check=True)
    (page,) = project.glob("runs/greetings-*/report.html")
    page.write_text(page.read_text().replace(str(project.parent.parent), "/home"))
    flags = ["--headless=new", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={project / 'browser'}"]
    flags += ["--no-sandbox"] if os.getuid() == 0 else []
    size = ["--window-size=1280,960", f"--screenshot={FIGURES.absolute() / 'report.png'}"]
    subprocess.run(["chromium", *flags, *size, page.as_uri()], check=True, capture_output=True, cwd=project)
    if not (FIGURES / "report.png").is_file():
        raise SystemExit("Chromium drew nothing")


def layout(sections: list[dict[str, Any]]) -> str:
    """The sections of a workspace with their charts as cards, three a row; what W&B draws in them is W&B's."""
    wide, high, gap, head, columns = 336, 56, 12, 34, 3
    parts, top = [], gap
    for section in sections:
        parts.append(f'<text x="{gap}" y="{top + 20}" class="section">{escape(section["name"])}</text>')
        top += head
        for number, panel in enumerate(section["panels"]):
            x, y = gap + number % columns * (wide + gap), top + number // columns * (high + gap)
            config = panel["config"]
            title, names = config.get("chartTitle") or panel["viewType"], ", ".join(config.get("metrics") or [])
            shown = names if len(names) <= 48 else names[:47] + "…"
            parts.append(f'<rect x="{x}" y="{y}" width="{wide}" height="{high}" rx="6" class="card"/>')
            parts.append(f'<text x="{x + 10}" y="{y + 23}">{escape(title)}</text>')
            parts.append(f'<text x="{x + 10}" y="{y + 43}" class="names">{escape(shown)}</text>')
        top += -(-len(section["panels"]) // columns) * (high + gap) + gap
    style = (
        "text{font:13px system-ui,'DejaVu Sans',sans-serif;fill:#1c2026}.section{font-weight:600;font-size:15px}"
        ".names{fill:#626b78;font-size:11px}.card{fill:#fff;stroke:#d5dae1}"
    )
    width = columns * (wide + gap) + gap
    first = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" role="img"><style>{style}</style>'
    return "\n".join([first, f'<rect width="{width}" height="{top}" fill="#f6f7f9"/>', *parts, "</svg>"]) + "\n"


def picture(text: Text) -> str:
    """The text as a terminal window in SVG; every piece of text is placed by its column, whatever the font."""
    console = Console(width=WIDTH, force_terminal=True)
    lines = list(text.wrap(console, WIDTH))
    width, height = WIDTH * LETTER + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN + BAR
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">',
        "<style>text{font-size:14px;font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace}</style>",
        f'<rect width="{width:g}" height="{height:g}" rx="10" fill="#16191f"/>',
        *(f'<circle cx="{MARGIN + 6 + 20 * i}" cy="22" r="6" fill="#3a404c"/>' for i in range(3)),
    ]
    for row, line in enumerate(lines):
        parts += line_parts(line, console, BAR + MARGIN + row * LINE)
    return "\n".join([*parts, "</svg>"]) + "\n"


def line_parts(line: Text, console: Console, top: float) -> Iterator[str]:
    """The pieces of one line: words as text, blocks of a bar as rectangles."""
    column = 0
    for segment in line.render(console):
        style = segment.style
        plain = DIM if style and style.dim else "#d6dae3"
        colour = COLOURS.get(style.color.number if style and style.color else None, plain)
        weight = ' font-weight="bold"' if style and style.bold else ""
        for match in re.finditer(r"[█▓▒░▚∙]+|[^█▓▒░▚∙ ]+(?: [^█▓▒░▚∙ ]+)*", segment.text):
            x, length = MARGIN + (column + match.start()) * LETTER, len(match[0]) * LETTER
            if match[0][0] in "█▓▒░▚∙":
                yield f'<rect x="{x:g}" y="{top + 2:g}" width="{length:g}" height="{LINE - 5}" fill="{colour}"/>'
            else:
                yield (
                    f'<text x="{x:g}" y="{top + 14:g}" textLength="{length:g}" fill="{colour}"{weight}>'
                    f"{escape(match[0])}</text>"
                )
        column += len(segment.text)


if __name__ == "__main__":
    main()
