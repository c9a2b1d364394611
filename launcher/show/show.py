"""How a person sees a plan, a table of runs and a failure. `*_rows` and `*_lines` are pure; `print_*` draws.

rich draws on a terminal; elsewhere the same words come out plain, without colour or wrapping.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from conf.record import Plan
from launcher.plan.batch import equation
from launcher.plan.memory import in_words, model_states
from launcher.runs.cause import RootCause
from launcher.runs.read import last_text_lines
from launcher.send.proposal import Proposal
from launcher.show import units

Row = tuple[str, str]


def headline(plan: Plan) -> str:
    """A run in one line: `demo-1a2b3c4d · llama 1.2M parameters · ZeRO-3 · 2 ranks · runs/demo-1a2b3c4d`."""
    topology = plan.topology
    size = f" {units.count(plan.parameters)} parameters" if plan.parameters else ""
    return " · ".join(
        [
            plan.run_id,
            f"{plan.model_type}{size}",
            f"ZeRO-{plan.config.parallel.zero_stage}",
            f"{topology.world_size} rank{'s' if topology.world_size > 1 else ''}"
            + (f" on {topology.nodes} nodes" if topology.nodes > 1 else ""),
            plan.run_dir,
        ]
    )


def plan_rows(plan: Plan) -> list[Row]:
    """What the plan says, by topic."""
    config, topology, batch = plan.config, plan.topology, plan.layout.batch
    packed = plan.packing != "none"
    rows = [
        ("run", plan.run_id),
        ("folder", plan.run_dir),
        ("model", f"{plan.model_type}, {_parameters(plan)}, {config.train.precision.value}"),
        ("task", f"{config.task.name}, {config.method.name} fine-tuning"),
        (
            "ranks",
            _ranks(plan),
        ),
        ("batch", equation(batch, packed, config.data.max_length)),
        ("packing", plan.packing),
        ("steps", _steps(plan)),
        ("states", states_text(plan)),
    ]
    others = ", ".join(str(size) for size in sorted(plan.layouts) if size != topology.world_size)
    if others:
        rows.append(("resumes at", f"{others} ranks as well"))
    return rows


def _ranks(plan: Plan) -> str:
    topology = plan.topology
    nodes = f"{topology.nodes} node{'s' if topology.nodes > 1 else ''}"
    return (
        f"{nodes} × {topology.ranks_per_node} = {topology.world_size} on {topology.device.value}; "
        f"{topology.threads_per_rank} threads each; started by {topology.start}"
    )


def _parameters(plan: Plan) -> str:
    return f"{units.count(plan.parameters)} parameters" if plan.parameters else "unknown size"


def _steps(plan: Plan) -> str:
    train = plan.config.train
    if train.max_steps is not None:
        return f"{train.max_steps} (train.max_steps)"
    if plan.expected_steps is not None:
        return f"about {plan.expected_steps} ({train.num_train_epochs:g} epochs)"
    return f"{train.num_train_epochs:g} epochs; the number of steps is known once the data is prepared"


def states_text(plan: Plan) -> str:
    """Memory of the model states of one rank, in words."""
    if not plan.parameters:
        return "unknown: the model's size is not known here"
    config = plan.config
    states = model_states(plan.parameters, config.parallel, config.train.precision, plan.topology.world_size)
    return in_words(states)


def deepspeed_lines(plan: Plan) -> list[str]:
    """DeepSpeed's JSON; keys that `parallel.deepspeed` changed or added are marked."""
    given = set(_flat(plan.config.parallel.deepspeed))
    lines = []
    for key, value in _flat(plan.layout.deepspeed).items():
        mark = "*" if key in given else " "
        lines.append(f"{mark} {key} = {json.dumps(value)}")
    return lines


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, part in value.items():
        if isinstance(part, Mapping) and part:
            flat.update(_flat(part, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = part
    return flat


def file_rows(artifacts: Mapping[str, bytes]) -> list[Row]:
    """The files of the run folder with their sizes."""
    return [(units.size(len(content)), path) for path, content in sorted(artifacts.items())]


def print_plan(proposal: Proposal, out: TextIO | None = None) -> None:
    """The whole plan for a person."""
    plan, artifacts = proposal.plan, proposal.artifacts
    script = "job.sbatch" if "job.sbatch" in artifacts else "job.sh"
    page = Page(out or sys.stdout)
    rows = plan_rows(plan)
    page.rows("Plan", rows)
    page.lines("Notes", [f"- {note}" for note in plan.notes if note not in dict(rows).values()])
    page.lines("Warnings", [f"! {warning}" for warning in plan.warnings], style="yellow")
    page.lines("DeepSpeed (* from parallel.deepspeed)", deepspeed_lines(plan))
    page.lines(script, artifacts.get(script, b"").decode().splitlines())
    page.rows("Files", [*file_rows(artifacts), (units.size(sum(map(len, artifacts.values()))), "together")])
    page.lines(
        "Next", [f"muster {_verb(plan)} … sends exactly this; muster plan … --show {script} prints one file of it"]
    )


def _verb(plan: Plan) -> str:
    return "run" if plan.config.cluster.kind.value == "local" else "submit"


def cause_lines(cause: RootCause, log_lines: int) -> list[str]:
    """The failing rank, its error and the end of its log."""
    who = f"rank {cause.rank}" if cause.rank >= 0 else "the agent"
    lines = [f"{who} on {cause.host} (node {cause.node}) failed first: {cause.cause.value}", f"  {cause.message}"]
    if cause.victims:
        lines.append(f"  it took down: {', '.join(f'rank {rank}' for rank in cause.victims if rank >= 0)}")
    if cause.traceback:
        lines += ["", *cause.traceback.rstrip().splitlines()]
    tail = [line for line in last_text_lines(cause.log, log_lines) if line.strip()]
    told = cause.traceback.strip().rpartition("\n")[2].strip()
    if tail and not (told and any(told in line for line in tail)):
        lines += ["", f"the end of its log, {cause.log}:", *(f"  {line}" for line in tail)]
    else:
        lines.append(f"log: {cause.log}")
    return lines


class Page:
    """Titles with rows or lines below, coloured on a terminal."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.bold, self.end = ("\x1b[1m", "\x1b[0m") if out.isatty() else ("", "")

    def title(self, title: str) -> None:
        """A bold line, after an empty one."""
        if title:
            print(f"\n{self.bold}{title}{self.end}", file=self.out)

    def rows(self, title: str, rows: Sequence[Row]) -> None:
        """Label and text in two columns."""
        if not rows:
            return
        self.title(title)
        width = max(len(label) for label, _ in rows)
        for label, text in rows:
            print(f"  {label:<{width}}  {text}", file=self.out)

    def lines(self, title: str, lines: Sequence[str], style: str = "") -> None:
        """Lines as they are."""
        if not lines:
            return
        self.title(title)
        colour = "\x1b[33m" if style == "yellow" and self.bold else ""
        for line in lines:
            print(f"  {colour}{line}{self.end if colour else ''}", file=self.out)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO | None = None) -> None:
    """A table: by rich on a terminal, else columns padded with spaces."""
    out = out or sys.stdout
    if out.isatty():
        from rich.console import Console

        Console(file=out).print(rich_table(columns, rows))
        return
    widths = [max(len(row[index]) for row in [columns, *rows]) for index in range(len(columns))]
    for row in [columns, *rows]:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip(), file=out)


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """A rich table whose cells are plain text."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == columns[0])
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
