"""The pre-flight of a node from start to end: look, meet the others, compare, write down."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import msgspec

from conf.files import write_atomically
from conf.layout import Attempt, RunFolder
from conf.preflight import Preflight
from conf.record import Plan, read_plan
from conf.schema import Access
from train.node.env import NodeEnv, read_node_env
from train.node.process import die_with_parent
from train.preflight.compare import compared
from train.preflight.earlier import remembered, tired_nodes
from train.preflight.look import look, read_token
from train.preflight.meet import Host, visit


def run_preflight(folder: RunFolder) -> int:
    """Look, compare, write, and say on standard output what was found, which the agent reads; exit status."""
    die_with_parent()
    begun = time.monotonic()
    environment = read_node_env(os.environ)
    plan = read_plan(folder.run_json)
    attempt = folder.attempt(environment.attempt)
    os.umask(0o077 if plan.config.access is Access.private else 0o027)
    own, others = _fly(folder, plan, environment, begun)
    seconds = round(time.monotonic() - begun, 3)
    for found in (own, *others):
        whole = replace(found, seconds=seconds)
        if environment.is_head or not own.met:
            write_preflight(attempt, whole)
    print(json.dumps(msgspec.to_builtins(replace(own, seconds=seconds))), flush=True)
    return 0


def _fly(folder: RunFolder, plan: Plan, environment: NodeEnv, begun: float) -> tuple[Preflight, list[Preflight]]:
    """This node's pre-flight and, on the head node, those of all that came: it writes them down for them."""
    limits, attempt = plan.config.health.preflight, folder.attempt(environment.attempt)
    deadline = begun + limits.limit_s
    host = environment.name_of(environment.node)
    if environment.nodes == 1:
        tired = tired_nodes(folder, plan, environment.attempt)
        return remembered(compared([look(plan, attempt, environment, host)[0]], limits), tired)[0], []
    if environment.is_head:
        meeting = Host(read_token(attempt), environment.port, environment.nodes, deadline)
        own, _ = look(plan, attempt, environment, host)
        tired = tired_nodes(folder, plan, environment.attempt)
        judged = meeting.meet(own, lambda nodes: remembered(compared(nodes, limits), tired))
        return judged[0], judged[1:]
    own, token = look(plan, attempt, environment, host)
    if not token:
        return replace(own, met=False), []
    head_host = environment.name_of(0)
    return visit(environment.head, head_host, environment.port, token, own, deadline), []


def write_preflight(attempt: Attempt, found: Preflight) -> None:
    """Write what was found on a node, as readable as the attempt."""
    path = attempt.preflight(found.node)
    path.parent.mkdir(exist_ok=True)
    mode = attempt.folder.stat().st_mode & 0o666
    write_atomically(path, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n", mode)
