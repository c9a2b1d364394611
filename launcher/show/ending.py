"""What a person is told when a run on this machine has ended: what it learned, where things are, what to type next."""

from __future__ import annotations

import sys
from pathlib import Path
from shlex import quote

from conf.layout import Attempt, RunFolder
from conf.outcome import Outcome, State
from conf.record import Plan
from launcher.runs.cause import find_root_cause
from launcher.runs.mirror import page_on_wandb
from launcher.runs.read import last_text_lines, read_lines, read_tail
from launcher.send.local import LocalEnd
from launcher.show import units
from launcher.show.evaluations import evaluation_lines, prediction_rows
from launcher.show.progress import ended_words
from launcher.show.show import cause_lines

ANSWERS = 4
ANSWER_LETTERS = 160


def report_end(folder: RunFolder, plan: Plan, end: LocalEnd) -> int:
    """Say how a local run ended; the exit code of the command."""
    if end.outcome is None:
        return _report_wordless(end)
    outcome = end.outcome
    if outcome.state is State.done:
        print()
        print_done(folder, plan)
        return 0
    if outcome.state is State.failed:
        _report_failure(folder, end.attempt, outcome)
        return 1
    saved = f"saved at step {outcome.step}" if outcome.checkpoint or outcome.step else "nothing was saved"
    print(f"\n{ended_words(outcome.state.value, outcome.reason)}; {saved}")
    print(f"go on:  muster resume {quote(str(folder.path))}")
    return 1


def print_done(folder: RunFolder, plan: Plan) -> None:
    """Evaluation before and after, answers of the exported model, where things are, what to type next."""
    lines = evaluation_lines(folder) + answer_lines(folder)
    if lines:
        print("\n".join(lines) + "\n")
    print("\n".join(place_lines(folder, plan)))


def answer_lines(folder: RunFolder) -> list[str]:
    """A few prompts with the exported model's answers."""
    lines = []
    for line in list(read_lines(folder.samples))[:ANSWERS]:
        answer, expected = line.get("answer", ""), line.get("expected") or line.get("response")
        lines += [f"  > {_short(line.get('prompt', ''))}", f"    {_short(answer)}"]
        if expected is not None and str(expected).strip() != str(answer).strip():
            lines.append(f"    (expected: {_short(expected)})")
    return ["answers of the exported model", *lines] if lines else []


def _short(text: object) -> str:
    words = " ".join(str(text).split())
    return words if len(words) <= ANSWER_LETTERS else words[: ANSWER_LETTERS - 1] + "…"


def place_lines(folder: RunFolder, plan: Plan) -> list[str]:
    """Where things are and what to type next."""
    exported = folder.export.is_dir()
    rows = [("run folder", str(folder.path)), ("metrics", str(folder.metrics))]
    if exported:
        rows.append(("model", f"{folder.export} ({units.size(_folder_size(folder.export))})"))
    if folder.adapter.is_dir():
        rows.append(("adapter", f"{folder.adapter} ({units.size(_folder_size(folder.adapter))})"))
    rows += prediction_rows(folder)
    tracked = page_on_wandb(folder)
    if tracked is not None or folder.wandb.is_dir():
        rows.append(("W&B", tracked or str(folder.wandb)))
    run = quote(str(folder.path))
    rows.append(("next", f"muster status {run}"))
    rows.append(("", f"muster logs {run}"))
    if plan.script is not None:
        return [f"{name:<11} {value}" for name, value in rows]
    if plan.config.train.max_steps:
        rows.append(("", f"muster resume {run} train.max_steps={2 * plan.config.train.max_steps}"))
    if not exported and not folder.adapter.is_dir() and plan.config.train.max_steps != 0:
        rows.append(("", f"muster export {run}"))
    return [f"{name:<11} {value}" for name, value in rows]


def _folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _report_failure(folder: RunFolder, attempt: Attempt | None, outcome: Outcome) -> None:
    cause = find_root_cause(attempt) if attempt else None
    print(f"\nfailed: {outcome.reason}", file=sys.stderr)
    if cause is not None:
        print("\n".join(cause_lines(cause, 15)), file=sys.stderr)
        print(f"what to change:  muster why {quote(str(folder.path))}", file=sys.stderr)
    elif attempt is not None:
        print(f"logs: {attempt.logs}", file=sys.stderr)
    if outcome.checkpoint:
        print(f"go on from step {outcome.step}:  muster resume {quote(str(folder.path))}", file=sys.stderr)


def _report_wordless(end: LocalEnd) -> int:
    """The job script or its agent ended before anything was written about it."""
    print(f"\nfailed: the run ended with status {end.exit_status} before it could say why", file=sys.stderr)
    words = end.words
    if end.attempt is not None:
        words = words + last_text_lines(end.attempt.agent_log(0), 20)
        print(f"log: {end.attempt.agent_log(0)}", file=sys.stderr)
    print("\n".join(f"  {line}" for line in words), file=sys.stderr)
    return 1


def report_export(folder: RunFolder, end: LocalEnd) -> int:
    """Say how an export went; the exit code of the command."""
    number_of = end.attempt.number if end.attempt else None
    done = [
        line
        for line in read_tail(folder.events)
        if line.get("event") == "exported" and number_of is not None and line.get("attempt") == number_of
    ]
    if end.exit_status == 0 and done and done[-1].get("verified"):
        name, place = ("model", folder.export) if folder.export.is_dir() else ("adapter", folder.adapter)
        print(f"\n{name:<11} {place} ({units.size(_folder_size(place))}), verified")
        return 0
    cause = find_root_cause(end.attempt) if end.attempt else None
    if cause is None:
        return _report_wordless(end)
    print("\nthe export failed", file=sys.stderr)
    print("\n".join(cause_lines(cause, 15)), file=sys.stderr)
    return 1
