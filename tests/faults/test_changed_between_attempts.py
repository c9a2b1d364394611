"""What may change between the attempts of a run: the ranks, and nothing of what makes it this run."""

from __future__ import annotations

import time
from typing import Any

import pytest

from conf.layout import RunFolder
from tests.slurm.live import lines, metrics, outcome, submit, wait_for, wait_for_end, wait_for_step
from tests.slurm.person import Person

pytestmark = [pytest.mark.faults, pytest.mark.slurm, pytest.mark.timeout(900)]

STEPS = 300
LOSS_SHARE, NORM_SHARE = 1e-5, 1e-4
RUN = [
    "experiment=demo",
    "tracking=none",
    "data.packing=exact",
    "train.eval_strategy=no",
    "train.eval_samples=0",
    "train.logging_steps=1",
    "checkpoint.export=never",
    f"train.max_steps={STEPS}",
    "optim.learning_rate=2e-4",
]
"""At the demo's own rate, rounding alone sets two undisturbed runs on 1 and 2 ranks apart: by 1e-7 of the loss for 20
steps, 1e-3 after 60, and as much as the loss itself after 100."""
NODES = ["cluster=devcluster", "cluster.ranks_per_node=1", "cluster.nodes=2"]


def curve(folder: RunFolder, *names: str) -> dict[int, list[float]]:
    """Values of each step, of the last attempt that made it."""
    return {line["step"]: [line[name] for name in names] for line in metrics(folder) if "train/loss" in line}


def largest_difference(one: RunFolder, other: RunFolder, name: str) -> float:
    """Over all steps, as a share."""
    pairs = zip(curve(one, name).values(), curve(other, name).values(), strict=True)
    return max(abs(ours / theirs - 1) for (ours,), (theirs,) in pairs)


def stopped(folder: RunFolder, attempt: int) -> bool:
    said = outcome(folder)
    return said.get("state") == "stopped" and said["attempt"] == attempt


@pytest.mark.long
@pytest.mark.fault(23)
def test_other_numbers_of_nodes_go_on_with_one_curve(person: Person, figures: dict[str, Any]) -> None:
    """2 nodes, stopped; 3 nodes, stopped; 1 node to the end: converted, said, and the loss of an undisturbed run."""
    work = person.home
    folder, run_id = submit(person, work, *RUN, *NODES, "name=elastic")
    wait_for_step(folder, 3)
    again_s, converted_s = [], []
    for attempt, nodes in enumerate((3, 1), 1):
        person.muster("stop", run_id, cwd=work)
        wait_for(lambda ended=attempt - 1: stopped(folder, ended), folder, f"the stop of attempt {attempt - 1}")
        step = outcome(folder)["step"]
        asked = time.monotonic()
        said = person.muster("resume", run_id, f"cluster.nodes={nodes}", cwd=work)
        before = {1: 2, 2: 3}[attempt]
        assert f"step {step} was saved by {before} ranks and will be converted for {nodes}" in said
        wait_for_step(folder, step + 1, attempt)
        again_s.append(round(time.monotonic() - asked, 1))
        (event,) = [
            line for line in lines(folder.events) if line["event"] == "converted" and line["attempt"] == attempt
        ]
        assert event["text"].startswith(f"step {step} was saved by {before} ranks: converted in ")
        converted_s.append(event["seconds"])
        own = [line["step"] for line in metrics(folder) if line["attempt"] == attempt and "train/loss" in line]
        assert own[0] == step + 1
        log = folder.attempt(attempt).rank_log(0, 0).read_text()
        assert f"going on after step {step} of attempt {attempt - 1}" in log
    wait_for_end(folder, "done")

    whole = person.muster(
        "run", *RUN, "cluster=local", "cluster.ranks_per_node=2", "name=whole", cwd=work, timeout_s=400
    )
    (undisturbed,) = (RunFolder(path) for path in (work / "runs").glob("whole-*"))
    assert list(curve(undisturbed)) == list(range(1, STEPS + 1)), whole
    order = ("train/global_step", "train/epoch", "data/tokens_seen")
    assert curve(folder, *order) == curve(undisturbed, *order)
    worst = largest_difference(folder, undisturbed, "train/loss")
    figures |= {"steps_lost": 0, "again_s": again_s, "converted_s": converted_s, "largest_loss_difference": worst}
    assert worst < LOSS_SHARE
    assert largest_difference(folder, undisturbed, "train/grad_norm") < NORM_SHARE


@pytest.mark.fault(24)
def test_a_changed_configuration_is_refused_with_the_difference(person: Person, figures: dict[str, Any]) -> None:
    """On this machine: edited in the command, edited in the same words again, and forced."""
    work = person.home
    words = ["experiment=demo", "tracking=none", "train.eval_strategy=no", "train.eval_samples=0", "name=edited"]
    words += ["cluster.ranks_per_node=1", "checkpoint.export=never", "train.max_steps=4"]
    person.muster("run", *words, cwd=work, timeout_s=400)
    (folder,) = (RunFolder(path) for path in (work / "runs").glob("edited-*"))
    before = folder.run_json.read_bytes()
    python = [str(person.python), "-m", "muster"]

    changed = ["optim.learning_rate=0.5", "train.max_steps=6"]
    refused = person.run(*python, "resume", "edited", *changed, cwd=work, check=False)
    assert refused.returncode == 2
    assert "optim.learning_rate=0.5 was 0.003 and may not change between attempts" in refused.stderr
    assert "--force" in refused.stderr
    assert folder.run_json.read_bytes() == before
    assert not folder.attempt(1).folder.exists()

    forced = person.muster("resume", "edited", "--force", *changed, cwd=work, timeout_s=400)
    assert "optim.learning_rate: 0.003 → 0.5" in forced
    assert (outcome(folder)["state"], outcome(folder)["step"]) == ("done", 6)
    assert [line["step"] for line in metrics(folder) if "train/loss" in line][-2:] == [5, 6]
    figures["steps_lost"] = 0
