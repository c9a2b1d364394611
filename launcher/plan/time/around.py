"""What a run does besides its steps: it starts, loads, saves for the last time, exports. Pure."""

from __future__ import annotations

from conf.forecast import TimePart
from conf.record import Device
from conf.schema import ModelInit
from launcher.facts.facts import Facts
from launcher.plan.export import export_at_end
from launcher.plan.memory.estimate import Subject, held_by
from launcher.plan.memory.host import checkpoint_bytes
from launcher.plan.storage import speed_of
from launcher.show import units

START_S = {Device.gpu: 120.0, Device.cpu: 20.0}
"""From a job's start to its first step, without reading the weights: imports, DeepSpeed, the rehearsal."""

START, READ, SAVE, EXPORT = "start", "read the weights", "last save", "export"
WEIGHT_BYTES = 2
"""Of a weight as models are published, and exported."""


def around(subject: Subject, facts: Facts) -> list[TimePart]:
    """Seconds of a run of one job before its first step and after its last one. Other saves go on beside the steps."""
    config = subject.config
    speed, source = speed_of(facts)
    at = f"at {speed / 1e9:.2g} GB/s ({source})"
    found = [TimePart(START, START_S[subject.topology.device], "imports, DeepSpeed, the rehearsal")]
    weights = WEIGHT_BYTES * (subject.parameters or 0)
    if config.model.init is ModelInit.pretrained and weights:
        found.append(TimePart(READ, weights / speed, f"{units.size(weights)} {at}"))
    held = held_by(subject)
    if held is not None and config.train.max_steps != 0:
        saved = checkpoint_bytes(held, config.parallel.zero_stage)
        found.append(TimePart(SAVE, saved / speed, f"{units.size(saved)} {at}"))
    if weights and export_at_end(config, subject.parameters)[0]:
        found.append(TimePart(EXPORT, 2 * weights / speed, f"{units.size(weights)} {at}, written and read again"))
    return found


def start_of(parts: list[TimePart]) -> float:
    """Seconds of every job of a run before its first step."""
    return sum(part.seconds for part in parts if part.name in (START, READ))
