"""What the tests of faults share: a real Slurm, figures of each fault, and the table at the end.

`make faults` runs all of them and keeps the table in benchmarks/results; `make test` leaves out those marked `long`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.table import TABLE, Proof, lines
from tests.slurm.conftest import devcluster, person

__all__ = ["devcluster", "person"]

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "faults.json"
ROWS = {fault.row for fault in TABLE}

proofs: list[Proof] = []
measured: dict[str, dict[str, Any]] = {}


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a test measured, in words that carry their unit: `noticed_s`, `again_s`, `steps_lost`, `goodput`."""
    return measured.setdefault(request.node.nodeid, {})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call" or (report.when == "setup" and report.failed):
        for marker in item.iter_markers("fault"):
            for row in marker.args:
                assert row in ROWS, f"{item.nodeid}: there is no fault {row}"
                own = measured.get(item.nodeid, {})
                proofs.append(Proof(row, f"{item.path.stem}::{item.name}", report.passed, own))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table; with MUSTER_KEEP_FAULTS it is written down too."""
    if not proofs or not os.environ.get("MUSTER_KEEP_FAULTS"):
        return
    terminalreporter.section("faults")
    for line in lines(proofs):
        terminalreporter.write_line(line)
    from benchmarks.measure import machine

    content = {
        "name": "faults",
        "title": "Faults that a run survives",
        "command": "make faults",
        "machine": machine(),
        "figures": [
            {"row": proof.row, "case": proof.case, "passed": proof.passed, **proof.figures} for proof in proofs
        ],
    }
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")
