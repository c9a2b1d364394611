"""The page of `muster plan`: the run at a glance, its memory, the job script, the files, then how it came about.

`*_rows` and `*_lines` are pure; `print_plan` draws. Without colour the words are the same.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from conf.layout import RunFolder
from conf.record import Plan
from conf.schema import ClusterKind
from launcher.facts.facts import Facts
from launcher.plan import learning
from launcher.plan.batch import equation
from launcher.plan.memory.verdict import disk_warnings
from launcher.runs.predicted import compared_memory, compared_step
from launcher.send.proposal import Proposal
from launcher.show import choice_page, memory_page, time_page, units
from launcher.show.show import Page, Row


def plan_rows(plan: Plan, facts: Facts | None = None) -> list[Row]:
    """What the plan says, by topic."""
    config = plan.config
    if plan.script is not None:
        return [*script_rows(plan), *_place_rows(plan)]
    packed = plan.packing != "none"
    rows = [("model", f"{plan.model_type} · {_parameters(plan)} · {config.train.precision.value}")]
    rows += _data_rows(facts)
    rows += [
        (
            "training",
            f"{config.method.name} fine-tuning · {config.task.name.value} · ZeRO-{config.parallel.zero_stage}",
        ),
        *((topic, text) for topic, text in _learning(plan) if text),
        ("steps", _steps(plan)),
        ("batch", equation(plan.layout.batch, packed, config.data.max_length)),
        ("", f"packed: {plan.packing}" if packed else "padded"),
    ]
    return rows + _place_rows(plan)


def script_rows(plan: Plan) -> list[Row]:
    """What runs in place of Muster's own training."""
    if plan.script is None:
        return []
    where = "" if plan.script.folder == "." else f", started in {plan.script.folder}/"
    rows = [("program", f"{plan.script.path}{where}, from the project's snapshot")]
    return rows + ([("words", shlex.join(plan.script.argv))] if plan.script.argv else [])


def _place_rows(plan: Plan) -> list[Row]:
    rows = [("ranks", _ranks(plan))]
    others = ", ".join(str(size) for size in sorted(plan.layouts) if size != plan.topology.world_size)
    if others and plan.script is None:
        rows.append(("", f"resumes at {others} ranks as well"))
    return [*rows, ("folder", plan.run_dir)]


def _data_rows(facts: Facts | None) -> list[Row]:
    rows: list[Row] = []
    for key, file in facts.data_files.items() if facts else ():
        about = "about " if file.rows_estimated else ""
        count = f" · {about}{file.rows:,} rows" if file.rows is not None else ""
        kind = key.removeprefix("data.").replace("train_files.", "train ").removesuffix("_file")
        kind = kind.replace("train", "training", 1)
        rows.append(("" if rows else "data", f"{kind} {file.path}{count}"))
    return rows


def _learning(plan: Plan) -> list[Row]:
    task, judged = learning.task_line(plan.config), learning.evaluation_line(plan.config)
    return [("", learning.trained(plan)), ("task", task), ("evaluation", judged)]


def _ranks(plan: Plan) -> str:
    topology = plan.topology
    threads = f"{topology.threads_per_rank} thread{'s' if topology.threads_per_rank > 1 else ''} each"
    nodes = f"{topology.nodes} node{'s' if topology.nodes > 1 else ''}"
    where = f"{topology.device.value} · {threads}" if topology.device.value == "cpu" else "GPU"
    return f"{topology.world_size} = {nodes} × {topology.ranks_per_node} · {where} · start by {topology.start}"


def _parameters(plan: Plan) -> str:
    return f"{plan.parameters:,} parameters" if plan.parameters else "unknown size"


def _steps(plan: Plan) -> str:
    train = plan.config.train
    epochs = f"{train.num_train_epochs:g} epoch{'' if train.num_train_epochs == 1 else 's'}"
    if train.max_steps is not None:
        return f"{train.max_steps} (train.max_steps)"
    if plan.expected_steps is not None:
        return f"about {plan.expected_steps} ({epochs})"
    return f"{epochs}; the number of steps is known once the data is prepared"


def memory_text(plan: Plan) -> str:
    """The memory of one rank in a line."""
    if plan.memory is None:
        return "unknown: the model's size is not known before the run"
    need = plan.memory.device or plan.memory.host
    if need is None:
        return "unknown"
    whose = "a rank" if plan.memory.device else "a node's host"
    return f"{whose} {units.size(need.peak.likely)} ({units.size(need.low)} to {units.size(need.high)})"


def compared_rows(folder: RunFolder) -> list[Row]:
    """What a run measured beside what its plan predicted, as far as it has."""
    memory, step = compared_memory(folder), compared_step(folder)
    rows = []
    if memory is not None:
        said = f"{units.size(memory.measured)}, {units.size(memory.predicted)} predicted"
        rows.append(("measured", f"memory {said} (×{memory.ratio:.2f})"))
    if step is not None:
        said = f"{time_page.seconds(step.measured)}, {time_page.seconds(step.predicted)} predicted"
        rows.append(("" if rows else "measured", f"a step {said} (×{step.ratio:.2f})"))
    return rows


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


def file_lines(artifacts: Mapping[str, bytes]) -> list[str]:
    """The files of the run folder with their sizes, in two columns."""
    cells = [f"{path:<18} {units.size(len(content)):>10}" for path, content in sorted(artifacts.items())]
    half = (len(cells) + 1) // 2
    left, right = cells[:half], [*cells[half:], ""]
    return [f"{one}     {other}".rstrip() for one, other in zip(left, right, strict=False)]


def print_memory(plan: Plan, page: Page, free: int | None = None) -> None:
    """Memory of a rank, a node and the disk."""
    memory = plan.memory
    if memory is None:
        page.lines("Memory", [memory_text(plan)])
        return
    if memory.device is not None:
        page.painted(memory_page.device_title(memory.device), memory_page.device_lines(memory.device, page))
    page.lines("Host and disk", memory_page.other_lines(memory, free))


def print_plan(proposal: Proposal, out: TextIO | None = None) -> None:
    """The whole plan for a person."""
    plan, artifacts = proposal.plan, proposal.artifacts
    script = "job.sbatch" if "job.sbatch" in artifacts else "job.sh"
    page = Page(out or sys.stdout)
    rows = plan_rows(plan, proposal.facts)
    page.rows(plan.run_id, rows)
    if plan.script is None:
        print_memory(plan, page, proposal.facts.free_bytes)
        if plan.time is not None:
            page.lines(time_page.title(plan.time), time_page.lines(plan.time))
        if plan.choice is not None:
            page.lines(choice_page.title(plan.choice), choice_page.lines(plan.choice))
    warnings = [*plan.warnings, *disk_warnings(plan.memory, proposal.facts.free_bytes)]
    page.lines("Warnings", [f"! {warning}" for warning in warnings], style="warning")
    page.lines(script, artifacts.get(script, b"").decode().splitlines())
    together = units.size(sum(map(len, artifacts.values())))
    page.lines(f"Files, {together} together", file_lines(artifacts))
    page.lines("Notes", [f"- {note}" for note in plan.notes if note not in {text for _, text in rows}])
    if plan.script is None:
        page.lines("DeepSpeed (* from parallel.deepspeed)", deepspeed_lines(plan), style="dim")
    verb = "run" if plan.config.cluster.kind is ClusterKind.local else "submit"
    page.lines("Next", [f"muster {verb} … sends exactly this; muster plan … --show {script} prints one file of it"])
