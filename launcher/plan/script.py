"""The plan of a person's own program: where its ranks are and how it is started, nothing of model and data. Pure."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from conf.record import Batch, Layout, Plan, Script
from conf.schema import RunConfig, TrainConfig
from launcher.facts.facts import Facts
from launcher.plan.batch import resumable_world_sizes
from launcher.plan.content import run_id
from launcher.plan.continuation import make_continuation
from launcher.plan.topology import make_topology


def script_plan(frozen: RunConfig, facts: Facts) -> Plan:
    """The plan of a checked and resolved configuration with `task=script`."""
    topology, notes = make_topology(frozen.cluster, facts, own_process=True)
    continuation, continuation_notes = make_continuation(frozen.cluster, facts)
    identity = run_id(frozen)
    sizes = {topology.world_size, *resumable_world_sizes(topology.nodes, topology.ranks_per_node)}
    return Plan(
        run_id=identity,
        run_dir=str(PurePosixPath(frozen.run_root, identity)),
        config=frozen,
        topology=topology,
        layouts={size: Layout(Batch(size, 0, 0, 0), {}) for size in sorted(sizes)},
        model_type="",
        parameters=None,
        packing="none",
        export_at_end=False,
        expected_steps=frozen.train.max_steps,
        notes=[*notes, *continuation_notes, *facts.notes, *facts.code.notes],
        continuation=continuation,
        script=Script(facts.script.path, facts.script.folder, argv(frozen.train)),
    )


def argv(train: TrainConfig) -> list[str]:
    """The program's words: its options, then its arguments as they are."""
    words: list[str] = []
    for name, value in train.options.items():
        words += _option(name, value)
    return [*words, *train.arguments]


def _option(name: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{name}"]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"--{name}", *(f"{one:.17g}" if isinstance(one, float) else str(one) for one in values)]
