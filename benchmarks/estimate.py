"""What the estimate of memory costs a plan: processor milliseconds by model and number of nodes, beside the whole."""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

from benchmarks.measure import RESULTS, machine
from launcher.compose.compose import compose
from launcher.facts.gather import gather
from launcher.plan.memory.estimate import estimate_of
from launcher.plan.plan import make_plan, resolve_packing, subject_of
from launcher.plan.resolve import resolved
from launcher.plan.topology import make_topology

MODELS = ("llama3.2-1b", "llama3.1-8b", "llama3.3-70b", "qwen3-8b")
NODES = (1, 1024)


def main(runs: int) -> None:
    """Each model on one node and on many, `runs` times."""
    rows = [row(model, nodes, runs) for model in MODELS for nodes in NODES]
    for one in rows:
        print(f"| {one['model']} | {one['nodes']} | {one['estimate_ms']:.1f} | {one['make_plan_ms']:.0f} |")
    content = {
        "name": "estimate",
        "title": "Processor milliseconds of the estimate of memory, its weights counted anew, and of the whole plan",
        "command": "python -m benchmarks estimate",
        "machine": machine(),
        "figures": rows,
        "targets": {"estimate_ms": "≤ 50; 1,024 nodes as fast as one"},
    }
    (RESULTS / "estimate.json").write_text(json.dumps(content, indent=2) + "\n")


def row(model: str, nodes: int, runs: int) -> dict[str, Any]:
    """Median processor time of one model on so many nodes of eight GPUs."""
    words = [f"model={model}", "data=demo", "cluster=slurm", f"cluster.nodes={nodes}", "cluster.gres=gpu:h100:8"]
    words += [f"train.global_batch_size={8 * nodes * 2}", "data.max_length=4096", "parallel=zero3"]
    config = compose(words)
    facts = gather(config, fetch=False)
    frozen = resolved(config, facts)

    def estimate() -> None:
        topology, _ = make_topology(frozen.cluster, facts)
        packing, _ = resolve_packing(frozen, str(facts.model.config["model_type"]))
        estimate_of(subject_of(frozen, facts, topology, packing), facts)

    def plan() -> None:
        make_plan(config, facts)

    return {
        "model": model,
        "nodes": nodes,
        "estimate_ms": round(milliseconds(estimate, runs), 2),
        "make_plan_ms": round(milliseconds(plan, runs), 2),
    }


def milliseconds(call: Any, runs: int) -> float:
    """Median of the processor time of a call."""
    taken = []
    for _ in range(runs):
        begin = time.process_time()
        call()
        taken.append(1e3 * (time.process_time() - begin))
    return statistics.median(taken)
