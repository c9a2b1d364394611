"""The export of a run by its method: the whole model, or an adapter alone and merged."""

from __future__ import annotations

from collections.abc import Callable

from conf.layout import RunFolder
from conf.record import Layout, Plan
from train.distributed import World
from train.engine import Engine
from train.export.adapter import export_adapter
from train.export.export import ExportResult, export


def export_trained(
    engine: Engine,
    world: World,
    plan: Plan,
    layout: Layout,
    folder: RunFolder,
    step: int,
    report: Callable[[str], None] = lambda text: None,
    give_way: Callable[[], None] = lambda: None,
) -> ExportResult:
    """Write and verify what the engine has learned after `step`; a collective.

    `report` hears what is being done; `give_way` may raise, on all ranks, before a whole model is read back.
    """
    if plan.config.method.peft:
        return export_adapter(engine, world, plan, layout, folder, step, report)
    largest = int(plan.config.checkpoint.max_shard_size_gb * 1e9)
    return export(engine, world, folder, largest, plan.run_id, step, report, give_way)
