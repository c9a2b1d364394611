"""What the tests of faults share: a real Slurm, figures of each fault, and the table at the end.

`make faults` runs all of them and keeps the table in benchmarks/results and docs/faults.md; `make test` leaves out
those marked `long`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.page import PAGE, RESULTS, page, read_proofs, write_proofs
from tests.faults.table import TABLE, Proof, lines
from tests.slurm.conftest import devcluster, person

__all__ = ["devcluster", "person"]

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
    """The table; with MUSTER_KEEP_FAULTS written down too: `all` of it anew, or `these` tests among the others."""
    keep = os.environ.get("MUSTER_KEEP_FAULTS")
    if not proofs or keep not in ("all", "these"):
        return
    known = read_proofs(RESULTS) if keep == "these" else []
    ran = {proof.case for proof in proofs}
    kept = [*(proof for proof in known if proof.case not in ran), *proofs]
    terminalreporter.section("faults")
    for line in lines(kept):
        terminalreporter.write_line(line)
    write_proofs(RESULTS, kept)
    PAGE.write_text(page(RESULTS))
