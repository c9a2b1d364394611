"""This node's part in an attempt, and whether it is the node that the plan was made for."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from conf.layout import Attempt, RunFolder
from conf.outcome import Cause
from conf.record import Device, Plan
from train.node.env import NodeEnv
from train.node.start import Program


class UnfitNodeError(Exception):
    """The job is not what the plan was made for."""

    cause = Cause.config


@dataclass(frozen=True)
class Node:
    """This node's part in one attempt of a run."""

    folder: RunFolder
    plan: Plan
    environment: NodeEnv
    data_argv: list[str]
    program: Program

    @property
    def attempt(self) -> Attempt:
        return self.folder.attempt(self.environment.attempt)

    @property
    def hosts(self) -> list[str]:
        """A name for every node, made up where the job script knows none."""
        return [self.environment.name_of(node) for node in range(self.environment.nodes)]


def check_topology(node: Node) -> None:
    world_size = node.environment.nodes * node.plan.topology.ranks_per_node
    if world_size not in node.plan.layouts:
        known = ", ".join(str(size) for size in sorted(node.plan.layouts))
        raise UnfitNodeError(
            f"{node.environment.nodes} nodes × {node.plan.topology.ranks_per_node} ranks are {world_size} ranks; "
            f"the plan is for {known}"
        )


def check_gpus(plan: Plan) -> None:
    if plan.topology.device is not Device.gpu:
        return
    import torch

    found = torch.cuda.device_count()
    if found < plan.topology.ranks_per_node:
        raise UnfitNodeError(
            f"{socket.gethostname()} shows {found} GPUs to torch {torch.__version__}; "
            f"the plan wants {plan.topology.ranks_per_node} ranks a node, one GPU each"
        )


def checks_itself(node: Node) -> bool:
    """Whether there is a pre-flight: where a scheduler chose the nodes, unless the person wants none."""
    return node.plan.config.health.check_nodes and not node.environment.is_local
