"""The ledger of bad nodes: what counts, what is left out of a job, and what others may put into a shared one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.node_ledger import (
    DAY_S,
    FORGET,
    STRONG,
    WEAK,
    Note,
    Suspect,
    budget_of,
    left_out,
    read_suspects,
    write_note,
)
from launcher.facts.facts import NodeFacts, SlurmFacts
from launcher.plan.nodes import budget_left
from launcher.render.artifacts import render
from slurm.parse import Partition
from tests.unit.planned import facts_of, plan_of

NOW = 1_800_000_000.0


def note(node: str = "gpu07", weight: int = WEAK, attempt: int = 0, at: float = NOW, run: str = "r-1") -> Note:
    return Note(node, at, at + 7 * DAY_S, "node_fail", "no word", weight, run=run, attempt=attempt)


@pytest.mark.parametrize(
    ("notes", "bad"),
    [
        ([note(weight=WEAK)], False),
        ([note(weight=STRONG)], True),
        ([note(attempt=0), note(attempt=0, at=NOW + 1)], False),
        ([note(attempt=0), note(attempt=1)], False),
        ([note(), note(run="r-2")], True),
        ([note(weight=STRONG), note(weight=FORGET, at=NOW + 1)], None),
        ([note(weight=STRONG), note(weight=FORGET, at=NOW + 1), note(at=NOW + 2)], False),
        ([note(weight=STRONG, at=NOW - 8 * DAY_S)], None),
    ],
    ids=["weak", "strong", "same-attempt", "same-run", "two-runs", "forgotten", "forgotten-then-weak", "expired"],
)
def test_what_counts(tmp_path: Path, notes: list[Note], bad: bool | None) -> None:
    for one in notes:
        write_note(tmp_path / "ledger", one)
    suspects = read_suspects(tmp_path / "ledger", NOW + 10)
    assert [suspect.is_bad for suspect in suspects] == ([] if bad is None else [bad])


def test_old_notes_of_ones_own_go(tmp_path: Path) -> None:
    write_note(tmp_path, note(at=NOW - 8 * DAY_S))
    write_note(tmp_path, note("gpu08"))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["", "-x", "a,b", "n[1-3]", "a b", "../a", "a\n", "x" * 300, "ALL;id"])
def test_what_is_no_node(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a node"):
        write_note(tmp_path, note(name))


def test_own_folder_is_private_and_a_shared_one_lets_others_read(tmp_path: Path) -> None:
    write_note(tmp_path / "own", note())
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o700
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    write_note(shared, note())
    modes = [stat.S_IMODE(path.stat().st_mode) for path in shared.iterdir()]
    assert modes == [0o644]


@given(st.binary(max_size=400))
def test_what_others_put_there_is_left_out(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    (folder / "00.json").write_bytes(content)
    write_note(folder, note(weight=STRONG))
    assert [suspect.node for suspect in read_suspects(folder, NOW)] == ["gpu07"]


def test_a_pipe_a_link_and_an_option_do_no_harm(tmp_path: Path) -> None:
    write_note(tmp_path, note(weight=STRONG))
    (only,) = tmp_path.iterdir()
    os.mkfifo(tmp_path / "1.json")
    (tmp_path / "2.json").symlink_to(only)
    (tmp_path / "3.json").write_bytes(only.read_bytes().replace(b"gpu07", b"--x"))
    (tmp_path / "4.json").write_bytes(only.read_bytes().replace(b"no word", b"\\u001b[2J"))
    (suspect,) = read_suspects(tmp_path, NOW)
    assert len(suspect.notes) == 2
    assert "\x1b" not in suspect.in_words()


@pytest.mark.parametrize(
    ("asked", "partition", "needed", "budget"),
    [(None, 4, 2, 1), (None, 100, 8, 10), (None, 4, 4, 0), (0, 100, 1, 0), (50, 100, 90, 10), (3, 100, 8, 3)],
)
def test_budget(asked: int | None, partition: int, needed: int, budget: int) -> None:
    assert budget_of(asked, partition, needed) == budget


def test_the_worst_go_first() -> None:
    suspects = [Suspect("b", (note("b", STRONG), note("b", STRONG, run="r-2"))), Suspect("a", (note("a", STRONG),))]
    assert [suspect.node for suspect in left_out(suspects, ["a", "b", "c"], 1)] == ["b"]
    assert [suspect.node for suspect in left_out(suspects, ["a", "c"], 1)] == ["a"]


BAD = NodeFacts(
    ledger="/home/ada/.local/state/muster/nodes/site",
    suspects=(Suspect("n3", (note("n3", STRONG),)), Suspect("n4", (note("n4", STRONG),))),
    names=tuple(f"n{i}" for i in range(1, 21)),
)
SITE = SlurmFacts(None, "22.05.8", (Partition("cpu", True, True, 20, None, None, 64, 1000, ""),))


@pytest.mark.parametrize(
    ("overrides", "line", "words"),
    [
        ([], "#SBATCH --exclude=n3,n4", "left out: n3 (node_fail: no word)"),
        (["cluster.exclude='n[8-9]'"], "#SBATCH --exclude=n[8-9],n3,n4", "left out: n4"),
        (["health.leave_out=1"], "#SBATCH --exclude=n3", "health.leave_out allows no more: n4"),
        (["health.leave_out=0"], "", "health.leave_out allows no more: n3"),
        (["cluster.nodelist=n3"], "", "cluster.nodelist names the nodes: n3"),
    ],
    ids=["both", "beside-the-persons", "budget", "never", "nodes-named"],
)
def test_a_submission_does_without_bad_nodes(overrides: list[str], line: str, words: str) -> None:
    facts = facts_of(slurm=SITE, nodes=BAD)
    plan = plan_of("cluster=slurm", "cluster.nodes=1", *overrides, slurm=SITE, nodes=BAD)
    script = render(plan, facts)["job.sbatch"].decode()
    assert [found for found in script.splitlines() if "--exclude" in found] == ([line] if line else [])
    assert words in "\n".join([*plan.notes, *plan.warnings])
    assert plan.config.cluster.node_ledger == BAD.ledger
    assert f"leave_out={budget_left(plan.config, facts)}\n" in render(plan, facts)["job/settings"].decode()
