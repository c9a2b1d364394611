"""Row 27: one run, 30 random faults one after the other, and the weights of a run that nothing disturbed."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import soak
from tests.faults.local_runs import SHORT, undisturbed, weights
from tests.slurm import live
from tests.slurm.conftest import brought_up
from tests.slurm.person import Person, make_person

pytestmark = [pytest.mark.faults, pytest.mark.slurm, pytest.mark.long, pytest.mark.timeout(4 * 3600)]

COUNT = int(os.environ.get("MUSTER_SOAK_FAULTS", "30"))
SEED = int(os.environ.get("MUSTER_SOAK_SEED", "27"))
BETWEEN = 8
"""Steps between faults, at least; while a disk is full or a link is cut it goes on for more."""
STEPS = COUNT * (BETWEEN + 16) + 20
EVERY = 4
DISK_MIB = 3072
TRAINING = [
    *SHORT,
    "experiment=demo",
    f"train.max_steps={STEPS}",
    f"checkpoint.save_steps={EVERY}",
    "checkpoint.save_total_limit=3",
]


@pytest.fixture
def site() -> Iterator[tuple[Person, Path]]:
    """A devcluster whose nodes see a small disk, which can be filled, and the person whose home is on it."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a disk, kills nodes and cuts links")
    with tempfile.TemporaryDirectory(prefix="muster-soak-", dir="/tmp") as name:
        disk, state = Path(name, "disk"), Path(name, "slurm")
        Path(name).chmod(0o755)
        disk.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=755", "tmpfs", str(disk)]
        subprocess.run(words, check=True)
        try:
            with brought_up(state) as record:
                yield make_person(disk, record.slurm_conf), state
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.fault(27)
def test_soak(site: tuple[Person, Path], tmp_path: Path, figures: dict[str, Any]) -> None:
    person, state = site
    words = [
        *TRAINING,
        "cluster=devcluster",
        "cluster.nodes=2",
        "cluster.ranks_per_node=1",
        "cluster.partition=preempt",
        f"cluster.max_requeues={2 * COUNT}",
    ]
    folder, run_id = live.submit(person, person.home, *words, "name=soak")
    scene = soak.Scene(person, state, folder, run_id, random.Random(SEED))
    soak.wait(lambda: soak.steps_in(scene) > 0, scene, "the first step")
    for fault in soak.chosen(COUNT, scene.rng):
        soak.wait_for_work(scene, BETWEEN)
        if scene.is_over():
            break
        print(f"{len(scene.done):>3}  step {live.metrics(folder)[-1]['step']:>4}  {fault.__name__}", flush=True)
        scene.done.append(fault.__name__)
        soak.strike(scene, fault)
    soak.wait(scene.is_over, scene, "the end", soak.nudge)
    figures.update(soak.goodput(folder, STEPS))
    figures |= {"faults": dict(Counter(scene.done)), "resumed_by_hand": scene.by_hand}
    print(figures)
    assert len(scene.done) == COUNT, "the run was done before all faults"
    assert weights(folder) == weights(undisturbed(tmp_path, *TRAINING))
