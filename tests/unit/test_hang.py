"""Who is blamed for a hang, how long a phase may stand still, and what flight recordings say. No processes."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.flight_recorder import Absence, Collective, absences, read_newest
from conf.schema import HealthConfig
from train.node.hang import Stand, as_traceback, describe, find_culprit
from train.node.limits import limit_s
from train.pulse import TRAIN, Pulse, Signs, make_pulse, read_pulse

REDUCE = 'Current thread 0x1 (most recent call first):\n  File "/p/torch/distributed/distributed_c10d.py", line 1 in x'
SLEEP = 'Current thread 0x1 (most recent call first):\n  File "/home/me/model.py", line 7 in forward'
HOSTS = ["a", "b"]


def at(number: int, name: str = "gloo:all_reduce", group: str = "0:default_pg") -> dict[str, Collective]:
    return {group: Collective(group, number, name)}


def stand(rank: int, **changes: Any) -> Stand:
    usual = Stand(rank, rank // 2, HOSTS[rank // 2], 100 + rank, TRAIN, 7, 60.0, 30.0, "S", REDUCE, at(41))
    return replace(usual, **changes)


def job(rank: int, others: dict[str, Any] | None = None, **changes: Any) -> list[Stand]:
    """Four ranks on two nodes, one of them different."""
    return [stand(one, **(changes if one == rank else others or {})) for one in range(4)]


CASES = {
    "stopped": (job(2, state="T", newest={}), 2, "its process is stopped"),
    "did not come": (job(1, newest=at(40), stack=SLEEP), 1, "ranks 0, 2, 3 wait, rank 1 did not come"),
    "never came": (job(3, newest=at(1, group="1:undefined"), stack=SLEEP), 3, "rank 3 did not come"),
    "another collective": (job(1, newest=at(41, "gloo:broadcast")), 1, "rank 1 did not come"),
    "in the kernel": (job(0, state="D", newest={}, stack="py-spy"), 0, "waits inside the kernel"),
    "silent": (job(3, newest={}, stack=SLEEP), 3, "does not answer"),
    "behind, nothing recorded": (job(2, {"newest": {}}, newest={}, step=6), 2, "it is at step 6, others at 7"),
    "outside, nothing recorded": (job(2, {"newest": {}}, newest={}, stack=SLEEP), 2, "the others wait for it"),
    "all came": (job(2, quiet_s=61.0), 2, "every rank came to the same collective"),
    "none waits": ([stand(rank, stack=SLEEP) for rank in range(4)], 0, "no rank waits for another"),
    "one rank alone": ([stand(0, stack=SLEEP)], 0, "no rank waits for another"),
}


@pytest.mark.parametrize(("stands", "rank", "why"), CASES.values(), ids=CASES)
def test_the_rank_that_did_not_come_is_blamed(stands: list[Stand], rank: int, why: str) -> None:
    culprit = find_culprit(stands, HOSTS)
    assert (culprit.rank, culprit.node) == (rank, rank // 2)
    assert why in culprit.why


def test_a_failure_says_what_the_rank_is_in() -> None:
    loader = SLEEP.replace("/home/me/model.py", "muster.zip/train/data/ahead.py")
    assert describe(stand(1, stack=SLEEP), "why").endswith('why; it is in File "/home/me/model.py", line 7 in forward')
    assert describe(stand(1, stack=loader), "why").endswith("why; it waits for its data")
    expected = "no sign of progress for 60 s in train after step 7 (limit 30 s); why"
    assert describe(stand(1), "why") == expected


def test_a_stack_in_pythons_order() -> None:
    stack = REDUCE + '\n  File "/b.py", line 2 in outer'
    assert as_traceback(stack).splitlines() == [
        "Stack (most recent call last):",
        '  File "/b.py", line 2 in outer',
        '  File "/p/torch/distributed/distributed_c10d.py", line 1 in x',
    ]
    assert len(as_traceback(stack + '\n  File "/b.py", line 2 in outer' * 99).splitlines()) == 32
    assert as_traceback("py-spy:\nnothing") == "py-spy:\nnothing"


def test_a_node_that_says_nothing_is_blamed_first() -> None:
    culprit = find_culprit([stand(0, state="T"), stand(1)], HOSTS, [1])
    assert (culprit.rank, culprit.node) == (-1, 1)
    assert "the agent of b does not answer" in culprit.why


@given(st.permutations(job(2, newest=at(40), stack=SLEEP)))
def test_the_order_of_the_words_does_not_matter(stands: list[Stand]) -> None:
    assert find_culprit(stands, HOSTS).rank == 2


def recording(numbers: dict[str, int]) -> dict[str, Any]:
    """As torch 2.13 writes it, the parts that are read; point-to-point entries count apart."""
    entries = [
        {"process_group": group.split(":"), "collective_seq_id": number, "profiling_name": "gloo:all_reduce"}
        for group, last in numbers.items()
        for number in range(1, last + 1)
    ]
    return {"version": "2.10", "entries": [*entries, {"process_group": ["0", "default_pg"], "is_p2p": True}]}


@pytest.mark.parametrize("kind", ["json", "several", "pickle"])
def test_recordings_are_read_in_all_their_forms(tmp_path: Path, kind: str) -> None:
    content = recording({"0:default_pg": 3, "1:undefined": 5})
    parts = [recording({"0:default_pg": 3}), recording({"1:undefined": 5})]
    forms = {
        "json": json.dumps(content).encode(),
        "several": json.dumps(parts).encode(),
        "pickle": pickle.dumps(content),
    }
    (tmp_path / "one").write_bytes(forms[kind])
    newest = read_newest(tmp_path / "one")
    assert {group: one.number for group, one in newest.items()} == {"0:default_pg": 3, "1:undefined": 5}


@pytest.mark.parametrize("content", [pickle.dumps(Path("/")), b"\x80", b"{", b"[3]", b'{"entries": [{}]}'])
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one").write_bytes(content)
    with pytest.raises(ValueError, match=r"Expecting|no recording"):
        read_newest(tmp_path / "one")


def test_absences_of_several_groups() -> None:
    pair = {"2:shard": Collective("2:shard", 9, "nccl:_all_gather_base")}
    newest = {0: at(5) | pair, 1: at(5) | {"2:shard": replace(pair["2:shard"], number=8)}, 2: at(5), 3: at(4)}
    assert absences(newest) == [
        Absence(at(5)["0:default_pg"], (0, 1, 2), (3,)),
        Absence(pair["2:shard"], (0,), (1,)),
    ]
    assert absences(newest)[1].in_words() == "nccl:_all_gather_base (number 9): rank 0 waits, rank 1 did not come"
    assert absences({rank: at(5) for rank in range(4)}) == []


def test_limits_of_phases() -> None:
    health = HealthConfig()
    health.limits_s.train, health.limits_s.first_step, health.limits_s.evaluate = 100.0, 500.0, 300.0
    assert limit_s(Signs(phase=TRAIN), health) == 500
    assert limit_s(Signs(phase=TRAIN, made=1, slowest_s=0.1), health) == 100
    assert limit_s(Signs(phase=TRAIN, made=9, slowest_s=60.0), health) == 600  # slow steps are no hang
    assert limit_s(Signs(phase="answer"), health) == limit_s(Signs(phase="evaluate"), health) == 300
    assert limit_s(Signs(phase="something new"), health) == 7200


def test_a_pulse_as_the_agent_sees_it(tmp_path: Path) -> None:
    file = tmp_path / "pulse"
    make_pulse(file, "load")
    assert read_pulse(file) == Signs(phase="load")
    pulse = Pulse()
    pulse.beat()  # attached to nothing yet
    pulse.attach(tmp_path / "nothing")
    pulse.attach(file)
    pulse.enter(TRAIN)
    for number in (5, 6):
        pulse.step(number)
    signs = read_pulse(file)
    assert (signs.phase, signs.step, signs.made, signs.beats) == (TRAIN, 6, 2, 4)
    assert 0 < signs.slowest_s < 60
    pulse.enter("evaluate")
    assert read_pulse(file).phase == "evaluate"
    assert read_pulse(file).beats == 5
    writer = Pulse()
    writer.attach(file, beside=True)
    writer.beat()
    pulse.beat()
    assert read_pulse(file).beats == 7
