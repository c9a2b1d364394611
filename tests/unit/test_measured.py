"""The ledger of measured runs, and how they correct a plan: memory upwards by any of them, downwards by several."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conf.estimate import CORRECTION
from conf.measured import LONGEST_LINE, Measured, add_measured, describe, read_measured
from conf.record import Plan
from launcher.facts.model import ModelFacts
from launcher.plan.measured import ENOUGH
from launcher.plan.memory.verdict import refusals
from launcher.show import time_page
from tests.unit.planned import TINY, config_of, facts_of, plan_of

LLAMA: dict[str, Any] = TINY | {"vocab_size": 4096, "hidden_size": 1024, "intermediate_size": 2816}
GPU = ("cluster=slurm", "cluster.gres=gpu:h100:2", "train.precision=bf16")
LIKE = describe(config_of(*GPU), "H100", "llama", "exact")


def run(number: int = 0, memory: float = 1.0, time: float = 1.0, **changes: Any) -> Measured:
    """A run that needed `memory` and `time` times what its plan said."""
    measured = {"predicted_memory": 1000, "memory": int(1000 * memory), "predicted_step_s": 1.0, "step_s": time}
    return replace(LIKE, run=f"r-{number}", time=float(number), **(measured | changes))


def plan(*records: Measured, overrides: tuple[str, ...] = GPU) -> Plan:
    return plan_of(*overrides, model=ModelFacts(config=LLAMA), measured=records)


def peak(found: Plan) -> int:
    assert found.memory is not None
    assert found.memory.device is not None
    return found.memory.device.peak.likely


@pytest.mark.parametrize(
    ("ratios", "factor"),
    [
        ([1.2], 1.2),
        ([1.05, 1.3], 1.3),
        ([0.5], 1.0),
        ([0.5, 0.6], 1.0),
        ([0.5, 0.6, 0.8], 0.8),
        ([0.5, 0.6, 0.8, 1.1], 1.1),
        ([25.0], 1.0),
    ],
    ids=["up", "highest", "one-down", "two-down", "three-down", "never-below-the-highest", "a-mistake"],
)
def test_memory_is_corrected_upwards_by_any_and_downwards_by_several(ratios: list[float], factor: float) -> None:
    found = plan(*(run(number, memory=ratio) for number, ratio in enumerate(ratios)))
    assert peak(found) == pytest.approx(factor * peak(plan()), rel=1e-3)
    assert found.memory is not None
    assert found.memory.device is not None
    terms = {term.name: term for term in found.memory.device.peak.terms}
    assert (CORRECTION in terms) == (factor != 1.0)
    if factor != 1.0:
        assert f"×{factor:.2f}" in terms[CORRECTION].how
        assert f"{len(ratios)} run" in terms[CORRECTION].how
    assert ENOUGH == 3


@pytest.mark.parametrize(
    "other",
    [{"architecture": "qwen2"}, {"device": "A100"}, {"stage": 2}, {"precision": "fp32"}, {"offload": "optimizer"}],
    ids=str,
)
def test_memory_of_other_runs_says_nothing(other: dict[str, Any]) -> None:
    assert peak(plan(run(memory=1.5, **other))) == peak(plan())


def test_what_did_not_fit_before_is_refused_now() -> None:
    limited = (*GPU, "cluster.gpu_memory_gib=4")
    fits = plan(overrides=limited)
    assert not refusals(fits.memory)
    assert refusals(plan(run(memory=3.0), overrides=limited).memory)


def test_time_is_corrected_by_the_nearest() -> None:
    far = run(1, time=9.0, architecture="qwen2", stage=1)
    family = run(2, time=4.0, stage=1)
    stage = run(3, time=3.0, offload="optimizer")
    exact = [run(4, time=2.0), run(5, time=2.2), run(6, time=7.0)]
    plain = plan().time
    assert plain is not None
    for records, factor, alike in (
        ([far], 9.0, "same device"),
        ([far, family], 4.0, "same device and architecture"),
        ([far, family, stage], 3.0, "same device, architecture and stage"),
        ([far, family, stage, *exact], 2.2, "runs like this one"),
    ):
        time = plan(*records).time
        assert time is not None
        assert time.step.likely == pytest.approx(factor * plain.step.likely)
        assert time.formula_step_s == pytest.approx(plain.step.likely)
        assert time.correction is not None
        assert time.correction.alike == alike
        assert alike in "\n".join(time_page.lines(time))


def test_records_come_back_and_a_run_counts_once(tmp_path: Path) -> None:
    ledger = tmp_path / "state" / "measured"
    add_measured(ledger, run(1, time=5.0))
    add_measured(ledger, run(2))
    add_measured(ledger, replace(run(1, time=2.0), time=9.0))
    assert [(record.run, record.step_s) for record in read_measured(ledger)] == [("r-2", 1.0), ("r-1", 2.0)]
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o700
    (file,) = ledger.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_measured(tmp_path / "none") == ()


def test_what_others_put_there_is_no_record(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    add_measured(ledger, run(1))
    mine = ledger / f"{os.getuid()}.jsonl"
    with mine.open("ab") as file:
        file.write(b"not json\n[1]\n")
        file.write(msgspec.json.encode(run(2, time=float("1e300"))) + b"\n")
        file.write(msgspec.json.encode(replace(run(3), architecture="\x1b[2Jllama")) + b"\n")
        file.write(b'{"architecture": "cut sho')
    os.mkfifo(ledger / "4242.jsonl")
    (ledger / "4243.jsonl").symlink_to(mine)
    (ledger / "4244.jsonl").write_bytes(mine.read_bytes())
    for name in ("²", f"0{os.getuid()}"):  # digits, and no number of a user
        (ledger / f"{name}.jsonl").write_bytes(msgspec.json.encode(run(4)) + b"\n")
    found = read_measured(ledger)
    assert [record.run for record in found] == ["r-1", "r-2", "r-3"]
    assert found[1].time_ratio is None
    assert found[2].architecture == "[2Jllama"


def test_a_file_in_the_place_of_ones_own_is_not_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    target = tmp_path / "elsewhere"
    target.write_text("")
    (tmp_path / f"{os.getuid()}.jsonl").symlink_to(target)
    with pytest.raises(OSError, match=r"[Ss]ymbolic|Too many"):
        add_measured(tmp_path, run())
    assert target.read_text() == ""
    with pytest.raises(OSError, match="too long"):
        add_measured(tmp_path / "own", replace(run(), run="x" * LONGEST_LINE))


def test_the_folder_is_the_sites_or_ones_own() -> None:
    shared = plan_of("cluster.measurements=/shared/measured")
    assert shared.config.cluster.measurements == "/shared/measured"
    own = plan_of(measurements="/home/ada/.local/state/muster/measured")
    assert own.config.cluster.measurements == "/home/ada/.local/state/muster/measured"
    assert shared.run_id == own.run_id
    assert facts_of().measured == ()
