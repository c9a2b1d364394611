"""The points of a grid: their names, what makes a sweep the same sweep, what a longer grid adds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.plan.content import run_name
from launcher.problems import ConfigurationError
from launcher.runs import rundir
from launcher.sweep.again import extended_grid
from launcher.sweep.grid import Grid, Ready, compose_grid
from launcher.sweep.pages import planned_lines
from launcher.sweep.record import Sweep, SweptPoint, identity
from tests.unit.planned import facts_of, plan_of

TINY = ["model=tiny", "data.train_file=train.jsonl", "cluster=slurm"]


def grid(*words: str) -> Grid:
    return compose_grid([*TINY, *words])


def names(found: Grid) -> list[str | None]:
    return [point.config.name for point in found.points]


def record(found: Grid) -> Sweep:
    points = [
        SweptPoint(list(point.overrides), run_name(point.config), "/r", identity(point.config))
        for point in found.points
    ]
    return Sweep(found.id, "submit", found.words, "/", points)


def test_what_is_swept_decides_on_the_id_and_not_how_it_is_said() -> None:
    one = grid("optim.learning_rate=1e-5,2e-5", "parallel=zero2,zero3")
    other = grid("parallel=zero3,zero2", "optim.learning_rate=2e-5,1e-5", "cluster.time='01:00:00'", "sweep.jobs=3")
    longer = grid("optim.learning_rate=1e-5,2e-5,3e-5", "parallel=zero2,zero3")
    named = grid("optim.learning_rate=1e-5,2e-5", "parallel=zero2,zero3", "sweep.name=my sweep")
    assert one.id == other.id
    assert longer.id != one.id
    assert named.id == f"my-sweep-{one.id[-8:]}"
    assert len({point.config.tracking.group for point in one.points}) == 1


NAMED = {
    "without a name the content tells them apart": (["train.seed=1,2"], [None, None]),
    "a name gets the overrides": (["name=a", "train.seed=1,2"], ["a-seed-1", "a-seed-2"]),
    "names of their own": (["name=a,b", "train.seed=1"], ["a", "b"]),
    "one run on different nodes": (
        ["cluster.nodes=1,2"],
        ["random-llama-causal_lm-full-nodes-1", "random-llama-causal_lm-full-nodes-2"],
    ),
    "quotes go": (
        ["name=a", "data.prompt_template='P {prompt}','Q'"],
        ["a-prompt_template-P-prompt", "a-prompt_template-Q"],
    ),
}


@pytest.mark.parametrize(("words", "expected"), NAMED.values(), ids=NAMED)
def test_points_are_named_apart(words: list[str], expected: list[str | None]) -> None:
    assert names(grid(*words)) == expected


def test_names_that_become_one_get_digits_of_their_content() -> None:
    found = names(grid("name=a", "data.prompt_template='{prompt} ?','{prompt} !'"))
    assert len(set(found)) == 2
    assert all(name is not None and name.startswith("a-prompt_template-") for name in found)
    assert found == names(grid("name=a", "data.prompt_template='{prompt} !','{prompt} ?'"))[::-1]


def test_keys_of_the_sweep_are_not_swept() -> None:
    with pytest.raises(ConfigurationError, match="of the whole sweep"):
        grid("sweep.jobs=1,2")


def overrides(found: Grid) -> list[tuple[str, ...]]:
    return [point.overrides for point in found.points]


def test_more_values_add_points_and_keep_those_that_are_there() -> None:
    first = grid("name=a", "optim.learning_rate=1e-5,2e-5", "train.seed=1,2")
    more = extended_grid(record(first), ["optim.learning_rate=2e-5,3e-5"])
    assert names(more) == ["a-learning_rate-3e-05-seed-1", "a-learning_rate-3e-05-seed-2"]
    assert {point.config.tracking.group for point in more.points} == {first.id}
    another = extended_grid(record(first), ["data.max_length=64,128"])
    assert len(another.points) == 8
    assert overrides(another)[0] == ("optim.learning_rate=1e-05", "train.seed=1", "data.max_length=64")
    assert extended_grid(record(first), ["train.seed=2"]).points == []


def test_the_arrays_that_would_be_sent_are_said() -> None:
    def ready(number: int, nodes: int) -> Ready:
        from launcher.render.artifacts import render
        from launcher.send.proposal import Proposal

        plan = plan_of("cluster=slurm", f"cluster.nodes={nodes}", f"train.seed={number}")
        return Ready(Proposal(plan, facts_of(), render(plan, facts_of())), [], (f"train.seed={number}",))

    lines = planned_lines("s-1", [ready(1, 2), ready(2, 2), ready(3, 1)])
    assert lines[0] == "s-1 · 3 points in 2 arrays and jobs"
    assert [line.split() for line in lines[2:4]] == [
        ["array", "2", "points", "of", "2", "nodes,", "2", "ranks"],
        ["job", "1", "point", "of", "1", "node,", "1", "rank", "(train.seed=3)"],
    ]
    assert lines[4] == "sent by 3 sbatch after 2 that only ask"


def test_snapshots_of_the_code_are_shared(tmp_path: Path) -> None:
    from launcher.render.artifacts import render

    facts, links = facts_of(run_root=str(tmp_path)), rundir.Links()
    plans = [plan_of(f"train.seed={seed}", run_root=str(tmp_path)) for seed in (1, 2, 3)]
    made = [rundir.create(plan, render(plan, facts), links) for plan in plans[:2]]
    assert len({run.muster_zip.stat().st_ino for run in made}) == 1
    assert len({run.run_json.stat().st_ino for run in made}) == 2
    newer = render(plans[2], replace(facts, code=replace(facts.code, muster=b"newer")))
    third = rundir.create(plans[2], newer, links)
    assert (third.muster_zip.read_bytes(), made[0].muster_zip.read_bytes()) == (b"newer", b"muster")
