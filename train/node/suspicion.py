"""What a run remembers of its nodes: in its events, which decide for the run itself, and in the ledger for others."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from conf.layout import Attempt, RunFolder
from conf.node_ledger import DAY_S, ENOUGH, Note, is_node_name, write_note
from conf.preflight import Preflight
from conf.record import Plan
from train.metrics.journal import Journal, read_events
from train.node.blame import Blame

EVENT = "bad_node"


def remember(folder: RunFolder, plan: Plan, attempt: int, blames: Sequence[Blame]) -> None:
    """Write down what an attempt says against nodes. A ledger that cannot be written is said, and no reason to fail."""
    journal, now = Journal(folder, attempt), time.time()
    for blame in blames:
        journal.event(EVENT, node=blame.node, cause=blame.cause, evidence=blame.evidence, weight=blame.weight)
        print(f"muster: against {blame.node}: {blame.cause}: {blame.evidence}", flush=True)
        if blame.weight and plan.config.cluster.node_ledger:
            until = now + DAY_S * plan.config.health.node_days
            note = Note(
                blame.node, now, until, blame.cause, blame.evidence, blame.weight, run=plan.run_id, attempt=attempt
            )
            try:
                write_note(Path(plan.config.cluster.node_ledger), note)
            except (OSError, ValueError) as error:
                print(f"muster: the ledger of bad nodes was not written: {error}", flush=True)


def repeaters(folder: RunFolder) -> dict[str, str]:
    """The nodes that have failed this run often enough to do without them, with their failures in words."""
    weights: dict[str, dict[int, int]] = {}
    words: dict[str, list[str]] = {}
    for event in read_events(folder):
        if event.get("event") != EVENT or not is_node_name(str(event.get("node", ""))):
            continue
        node, attempt = str(event["node"]), int(event.get("attempt", -1))
        by_attempt = weights.setdefault(node, {})
        by_attempt[attempt] = max(int(event.get("weight", 0)), by_attempt.get(attempt, 0))
        words.setdefault(node, []).append(f"attempt {attempt}: {event.get('cause')}")
    return {node: ", ".join(words[node]) for node, found in weights.items() if sum(found.values()) >= ENOUGH}


def left_out_before(folder: RunFolder) -> list[str]:
    """The nodes that earlier attempts of this run have left out."""
    found: list[str] = []
    for path in sorted(folder.attempts.glob("*/leave_out")):
        found += path.read_text().strip().split(",")
    return found


def read_down(attempt: Attempt) -> Mapping[str, str]:
    """The nodes that the scheduler lost during an attempt, with its word on them."""
    try:
        lines = attempt.down.read_text().splitlines()
    except FileNotFoundError:
        return {}
    found = {}
    for line in lines:
        node, _, words = line.partition(" ")
        if is_node_name(node):
            found[node] = words or "down"
    return found


def read_hosts(attempt: Attempt) -> list[str]:
    """The names of an attempt's nodes in the scheduler, by node; empty where there is none."""
    try:
        return attempt.hosts.read_text().split()
    except FileNotFoundError:
        return []


def read_preflights(attempt: Attempt, nodes: int) -> list[Preflight]:
    """The pre-flights that were written, asked for by name: a shared folder may list them late."""
    found = []
    for node in range(nodes):
        try:
            found.append(msgspec.json.decode(attempt.preflight(node).read_bytes(), type=Preflight))
        except (OSError, msgspec.DecodeError):
            continue
    return found
