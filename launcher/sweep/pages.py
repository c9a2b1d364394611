"""What a person sees after a sweep was sent, or before it would be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conf.record import Plan
from conf.schema import ClusterKind
from launcher.sweep.arrays import Batch, Member, batches
from launcher.sweep.grid import Ready
from launcher.sweep.jobs import Sending
from launcher.sweep.phase import Phase, phase_of
from launcher.sweep.preparation import data_key, prepares
from launcher.sweep.record import Sweep
from launcher.sweep.submit import Submitted, member_of

PLANNED = ("point", "run", "nodes and ranks", "global = micro × accumulation × ranks", "warnings", "state")
PLANNED_STATE = {Phase.new: "", Phase.done: "done", Phase.live: "running", Phase.ended: "was sent before"}
WORDS = {Phase.done: "done", Phase.live: "running or waiting", Phase.ended: "ended otherwise"}


def submitted_lines(sweep: Sweep, submitted: Submitted) -> list[str]:
    """What was there, what was sent, what to do next."""
    count = len(submitted.phases)
    new = submitted.sent_now
    left = submitted.counts[Phase.new] - new
    lines = [f"{sweep.id} · {_points(count)} · {submitted.folder.path}"]
    if submitted.goes_on or new < count:
        there = [f"{submitted.counts[phase]} {word}" for phase, word in WORDS.items() if submitted.counts[phase]]
        was = f"goes on: {', '.join(there) or 'nothing of it was sent'}"
        now = [f"{_points(number)} {word}" for number, word in ((new, "sent now"), (left, "not sent")) if number]
        lines.append(f"{was}; {', '.join(now) or 'nothing is left to send'}")
    notes = submitted.notes if len(submitted.notes) == len(submitted.sent) else [""] * len(submitted.sent)
    lines += [sending_line(sending, note) for sending, note in zip(submitted.sent, notes, strict=True)]
    if submitted.calls:
        lines.append(f"sent by {_calls(submitted.calls)}, {submitted.asked} asked before whether Slurm would take them")
    lines += ["", f"watch   muster sweep status {sweep.id} -w", f"end     muster sweep cancel {sweep.id}"]
    if submitted.counts[Phase.ended]:
        lines.append(f"again   muster sweep retry {sweep.id}    sends what failed, was stopped or cancelled")
    if left:
        lines.append("rest    the command that made or extended the sweep sends points that have no folder yet")
    return lines


def submitted_json(sweep: Sweep, submitted: Submitted) -> dict[str, Any]:
    """The same for scripts."""
    jobs: dict[str, str] = {}
    for sending in submitted.sent:
        for index, member in enumerate(sending.members):
            jobs[member.point.run_id] = sending.job_id if sending.array is None else f"{sending.job_id}_{index}"
    points = [
        {"point": point.overrides, "id": point.run_id, "folder": point.run_dir, "job_id": jobs.get(point.run_id)}
        for point in sweep.points
    ]
    return {
        "sweep": sweep.id,
        "folder": str(submitted.folder.path),
        "goes_on": submitted.goes_on,
        "before": {phase.value: submitted.counts[phase] for phase in Phase},
        "sent": len(jobs),
        "sbatch_calls": submitted.calls,
        "points": points,
    }


def sending_line(sending: Sending, note: str = "") -> str:
    """One batch: `array 12   3 points of 2 nodes, would start at …`."""
    what = f"job {sending.job_id}" if sending.array is None else f"array {sending.job_id}"
    return f"{what}   {_batch_text(Batch(sending.members))}{f', {note}' if note else ''}"


def planned_row(one: Ready) -> tuple[str, ...]:
    """A point as a row of `PLANNED`."""
    plan = one.proposal.plan
    batch = plan.layout.batch
    equation = f"{batch.global_batch_size} = {batch.micro_batch_size} × {batch.accumulation} × {batch.world_size}"
    if plan.script is not None:
        equation = ""
    phase = phase_of(one.swept.folder, {})
    return (one.point, plan.run_id, _resources(plan), equation, str(len(plan.warnings) or ""), PLANNED_STATE[phase])


def planned_lines(sweep_id: str, ready: Sequence[Ready]) -> list[str]:
    """The arrays that would be sent, and by how many commands."""
    first = ready[0].proposal
    config = first.plan.config
    if config.cluster.kind is ClusterKind.local:
        at_a_time = f"{config.sweep.jobs} at a time" if config.sweep.jobs > 1 else "one after the other"
        return [f"{sweep_id} · {_points(len(ready))} on this machine, {at_a_time} (sweep.jobs={config.sweep.jobs})"]
    limits = (config.sweep.max_array_size, first.facts.slurm.max_array_size if first.facts.slurm else None)
    limit = min((limit for limit in limits if limit is not None), default=None)
    members = [member_of(one) for one in ready if phase_of(one.swept.folder, {}) is Phase.new]
    found = batches(members, limit)
    if not found:
        return [f"{sweep_id} · nothing is left to send"]
    alike: dict[str, list[Member]] = {}
    for member in members:
        alike.setdefault(data_key(member.plan), []).append(member)
    prepared = sum(1 for sharing in alike.values() if prepares(sharing))
    lines = [
        f"{sweep_id} · {_points(len(members))} in {len(found)} {'array' if len(found) == 1 else 'arrays and jobs'}"
    ]
    if prepared:
        lines.append(
            f"job      {prepared} before them {'prepares' if prepared == 1 else 'prepare'} the data that points share"
        )
    lines += [f"{'array' if batch.is_array else 'job':<8} {_batch_text(batch)}" for batch in found]
    kinds = len({member.resources for member in members})
    most = f"; an array has at most {limit}" if limit is not None else ""
    lines.append(f"sent by {_calls(len(found) + prepared)} after {kinds} that only ask{most}")
    return lines


def _batch_text(batch: Batch) -> str:
    return f"{_points(len(batch.members))} of {_resources(batch.plan)}" + (
        f" ({batch.members[0].point.label})" if not batch.is_array else ""
    )


def _resources(plan: Plan) -> str:
    topology = plan.topology
    nodes = f"{topology.nodes} node{'s' if topology.nodes > 1 else ''}"
    return f"{nodes}, {topology.world_size} rank{'s' if topology.world_size > 1 else ''}"


def _points(count: int) -> str:
    return f"{count} point{'' if count == 1 else 's'}"


def _calls(count: int) -> str:
    return f"{count} sbatch"
