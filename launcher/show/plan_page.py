"""The page of `muster plan`: the run at a glance, its memory, the job script, the files, then how it came about.

`*_rows` and `*_lines` are pure; `print_plan` draws. Without colour the words are the same.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from conf.record import Plan
from conf.schema import ClusterKind
from launcher.facts.facts import Facts
from launcher.plan import learning
from launcher.plan.batch import equation
from launcher.plan.memory import ModelStates, Trained, in_words, model_states
from launcher.send.proposal import Proposal
from launcher.show import units
from launcher.show.show import Page, Row

BAR_WIDTH = 48
GLYPHS = {"weights": "█", "gradients": "▓", "optimizer": "░"}


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


def states_text(plan: Plan) -> str:
    """Memory of the model states of one rank, in words."""
    states = _states(plan)
    return in_words(states) if states else "unknown: what is trained is not counted before the run"


def _states(plan: Plan) -> ModelStates | None:
    if not plan.parameters:
        return None
    config = plan.config
    method = config.method
    if plan.trainable_parameters is None and (method.peft or method.freeze or method.freeze_layers):
        return None
    trained = Trained(plan.trainable_parameters, bool(method.peft), plan.quantized_parameters, method.quantization)
    return model_states(plan.parameters, config.parallel, config.train.precision, plan.topology.world_size, trained)


def bar_parts(states: ModelStates) -> list[tuple[str, int]]:
    """Weights, gradients and optimizer with their shares of the bar, in letters; together `BAR_WIDTH`."""
    whole = states.weights + states.gradients + states.optimizer
    weights = max(1, round(BAR_WIDTH * states.weights / whole))
    gradients = max(1, round(BAR_WIDTH * states.gradients / whole))
    return [("weights", weights), ("gradients", gradients), ("optimizer", BAR_WIDTH - weights - gradients)]


def memory_lines(plan: Plan, page: Page) -> list[str]:
    """The model states of a rank as a bar with its legend."""
    states = _states(plan)
    if states is None:
        return [states_text(plan)]
    bar = "".join(page.paint(GLYPHS[name] * letters, name) for name, letters in bar_parts(states))
    host = {"weights": states.weights_on_host, "optimizer": states.optimizer_on_host}
    legend = "   ".join(
        f"{page.paint(GLYPHS[name], name)} {name} {units.size(getattr(states, name))}"
        + (" (host)" if host.get(name) else "")
        for name in GLYPHS
    )
    total = units.size(states.device) + (f" and {units.size(states.host)} of host memory" if states.host else "")
    return [f"{bar}  {total}", legend, "activations and buffers come on top"]


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


def print_plan(proposal: Proposal, out: TextIO | None = None) -> None:
    """The whole plan for a person."""
    plan, artifacts = proposal.plan, proposal.artifacts
    script = "job.sbatch" if "job.sbatch" in artifacts else "job.sh"
    page = Page(out or sys.stdout)
    rows = plan_rows(plan, proposal.facts)
    page.rows(plan.run_id, rows)
    if plan.script is None:
        page.lines("Model states of a rank", memory_lines(plan, page))
    page.lines("Warnings", [f"! {warning}" for warning in plan.warnings], style="warning")
    page.lines(script, artifacts.get(script, b"").decode().splitlines())
    together = units.size(sum(map(len, artifacts.values())))
    page.lines(f"Files, {together} together", file_lines(artifacts))
    page.lines("Notes", [f"- {note}" for note in plan.notes if note not in {text for _, text in rows}])
    if plan.script is None:
        page.lines("DeepSpeed (* from parallel.deepspeed)", deepspeed_lines(plan), style="dim")
    verb = "run" if plan.config.cluster.kind is ClusterKind.local else "submit"
    page.lines("Next", [f"muster {verb} … sends exactly this; muster plan … --show {script} prints one file of it"])
