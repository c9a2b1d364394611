"""`muster devcluster`: a real Slurm on this machine, to try and to test with."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slurm.devcluster import Status

HELP = "a real Slurm on this machine: up, down; kill, cut, mend"
EXAMPLES = """
muster devcluster up --nodes 4
muster submit experiment=demo cluster=devcluster cluster.nodes=2
muster devcluster kill node2           # its power is gone: how does a run survive that?
muster devcluster restore node2
muster devcluster cut node1 node2      # these two no longer reach each other; mend undoes it
muster devcluster up --profile strict      # accounts, limits, refusals, fake GPUs, files that show late
muster devcluster down
"""
BREAKS = ("kill", "restore", "cut", "mend")


def run(argv: list[str]) -> int:
    """Bring the devcluster up, take it down, break and mend its nodes, or say how it stands."""
    from launcher.flags import Parser
    from launcher.problems import SchedulerError
    from slurm import devcluster

    parser = Parser("devcluster", HELP, EXAMPLES)
    parser.add_argument("action", choices=("up", "down", "status", *BREAKS))
    parser.add_argument("node", nargs="*", metavar="NODE", help="for kill, restore (one), cut, mend (two or more)")
    parser.add_argument("--nodes", type=int, default=4, metavar="N", help="nodes (default: 4)")
    parser.add_argument("--cpus-per-node", type=int, default=4, metavar="N", help="CPUs a node claims (default: 4)")
    parser.add_argument(
        "--profile", choices=sorted(devcluster.PROFILES), default="plain", help="the kind of site (default: plain)"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    flags = parser.parse_args(argv)
    try:
        if flags.action == "up":
            devcluster.up(flags.nodes, flags.cpus_per_node, profile=devcluster.PROFILES[flags.profile])
        elif flags.action == "down":
            return _tell_down(devcluster.down(), flags.json)
        elif flags.action in BREAKS:
            _break(flags.action, flags.node)
    except devcluster.DevclusterError as error:
        raise SchedulerError(str(error)) from error
    return _tell_status(devcluster.status(), flags.json)


def _break(action: str, nodes: list[str]) -> None:
    from slurm import devcluster

    if action in ("cut", "mend"):
        (devcluster.cut_link if action == "cut" else devcluster.mend_link)(*nodes)
        return
    for node in nodes:
        (devcluster.kill_node if action == "kill" else devcluster.restore_node)(node)


def _tell_down(was_there: bool, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"up": False, "was_there": was_there}))
    else:
        print("devcluster: down" if was_there else "devcluster: there was none")
    return 0


def _tell_status(status: Status, as_json: bool) -> int:
    if as_json:
        print(json.dumps(asdict(status)))
    elif not status.up:
        print("devcluster: down; muster devcluster up")
    else:
        states = " ".join(f"{name}:{state}" for name, state in status.node_states.items())
        print(f"devcluster: up ({status.profile}), {states}")
        print(f"SLURM_CONF={status.slurm_conf}")
        if status.interface == "lo":
            print("The nodes share this machine's network: add cluster.network.interface=lo to a run.", file=sys.stderr)
        else:
            print("muster submit experiment=demo cluster=devcluster cluster.nodes=2")
    return 0 if status.up else 4
