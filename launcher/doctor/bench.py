"""`muster doctor --bench` and `--build-ops`: a run of Muster's own program `train/measure.py`, here or as a job.

It goes the way of every program of a person's own (`task=script`), so that it meets the site's Python, container,
modules and network exactly as training would. Its figures are the last line of its metrics.jsonl.
"""

from __future__ import annotations

import dataclasses
import io
import json
import time
import zipfile
from collections.abc import Iterator, Mapping

from conf.layout import RunFolder
from conf.record import Plan
from conf.schema import ClusterKind, RunConfig, TaskName
from launcher.doctor.finding import Finding
from launcher.facts.facts import Facts
from launcher.facts.gather import PACKAGE_ROOT, gather
from launcher.facts.script import ScriptFacts
from launcher.problems import MusterError

PROGRAM = "measure.py"
POLL_S = 1.0
KEYS = ("intra_node_gbps", "inter_node_gbps", "host_link_gbps")
"""Figures that are keys of `cluster`."""

WORDS = ("task=script", f"train.entrypoint={PROGRAM}", "tracking=none")

ABOUT: Mapping[str, tuple[str, str]] = {
    "matmul_bf16_tflops": ("matrix products, bf16", "TFLOP/s a rank"),
    "matmul_fp32_tflops": ("matrix products, fp32", "TFLOP/s a rank"),
    "memory_gb_s": ("memory of the device", "GB/s a rank, read and written"),
    "host_link_gbps": ("GPU from host memory", "Gbit/s"),
    "intra_node_gbps": ("all-gather in a node", "Gbit/s received by a rank"),
    "inter_node_gbps": ("all-gather between nodes", "Gbit/s received by a node"),
    "all_reduce_gb_s": ("all-reduce over all ranks", "GB/s of the tensor"),
    "scratch_write_mb_s": ("scratch, written and flushed", "MB/s"),
    "scratch_read_mb_s": ("scratch, read", "MB/s"),
    "runs_write_mb_s": ("run folder, written and flushed", "MB/s"),
    "runs_read_mb_s": ("run folder, read", "MB/s"),
    "build_ops_s": ("DeepSpeed's CPU Adam compiled", "s"),
}


def words_of(bench: bool, build_ops: bool) -> list[str]:
    """The overrides of a measurement; each is a run of its own."""
    own = [*(["--bench"] if bench else []), *(["--build-ops"] if build_ops else [])]
    return [
        *WORDS,
        f"name=doctor-{time.strftime('%m%d-%H%M%S')}",
        "train.arguments=[" + ",".join(f"'{word}'" for word in own) + "]",
    ]


def measure(config: RunConfig) -> tuple[Plan, dict[str, float]]:
    """Run the program where the configuration says, stay with it, and return its plan and figures.

    Raises:
        MusterError: it ended without figures.
    """
    from launcher.runs import rundir
    from launcher.send.foreground import run_in_foreground
    from launcher.send.proposal import propose_config
    from launcher.send.submit import ask_first, send_all

    assert config.task.name is TaskName.script
    proposal = propose_config(config, look=_facts)
    plan = proposal.plan
    local = plan.config.cluster.kind is ClusterKind.local
    note = "" if local else ask_first(plan, proposal.artifacts)
    folder = rundir.create(plan, proposal.artifacts)
    if local:
        run_in_foreground(folder, plan)
    else:
        print(f"job {send_all(folder, plan)}{note}; Ctrl-C leaves it: muster status {plan.run_id}", flush=True)
        _wait(folder)
    figures = read_figures(folder)
    if not figures:
        raise MusterError(f"nothing was measured: muster why {plan.run_dir}")
    return plan, figures


def _facts(config: RunConfig) -> Facts:
    """The facts of the configuration, with Muster's own program in the place of a person's project."""
    facts = gather(config)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(PROGRAM, (PACKAGE_ROOT / "train" / PROGRAM).read_text())
    code = dataclasses.replace(facts.code, project=packed.getvalue(), root=facts.cwd)
    return dataclasses.replace(facts, code=code, script=ScriptFacts(PROGRAM))


def _wait(folder: RunFolder) -> None:
    """Until the run has ended, or its job has left the queue."""
    from launcher.runs.standing import stand
    from launcher.send.scheduler import live_jobs

    while stand(folder, live_jobs([folder])).live:
        time.sleep(POLL_S)


def read_figures(folder: RunFolder) -> dict[str, float]:
    """The figures in the last line of metrics.jsonl, by their names without `bench/`; nothing where there is none."""
    try:
        lines = folder.metrics.read_text().splitlines()
        last = json.loads(lines[-1])
    except (OSError, IndexError, ValueError):
        return {}
    return {name.removeprefix("bench/"): float(value) for name, value in last.items() if name.startswith("bench/")}


def findings(figures: Mapping[str, float]) -> Iterator[Finding]:
    """The figures in words, with the key that takes one."""
    for name, value in figures.items():
        topic, unit = ABOUT.get(name, (name, ""))
        key = f"cluster.{name}={value:.4g} in the site's file" if name in KEYS else ""
        yield Finding(topic, True, f"{value:.4g} {unit}", key)


def where(plan: Plan) -> str:
    """On what it was measured."""
    topology = plan.topology
    ranks = f"{topology.world_size} rank{'s' if topology.world_size > 1 else ''}"
    nodes = f"{topology.nodes} nodes" if topology.nodes > 1 else "one node"
    return f"{ranks} of {nodes} ({topology.device.value}): {plan.run_dir}"
