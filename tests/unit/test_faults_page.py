"""The page of faults is made from what was measured, and says what failed or was not run."""

from __future__ import annotations

from pathlib import Path

from tests.faults.page import PAGE, RESULTS, page, read_proofs, write_proofs
from tests.faults.table import TABLE, Proof


def test_the_page_is_made_from_the_results() -> None:
    assert PAGE.read_text() == page(RESULTS), "run: python -m tests.faults.page > docs/faults.md"


def test_a_row_for_each_fault_with_its_figures(tmp_path: Path) -> None:
    results = tmp_path / "faults.json"
    proofs = [
        Proof(27, "test_soak::test_soak", True, {"goodput": 0.4, "faults": {"kill_rank": 3, "cut_link": 2}}),
        Proof(1, "test_ranks::a|b", False, {"noticed_s": 1.5, "steps_lost": 3}),
        Proof(1, "test_ranks::c", True, {}),
    ]
    write_proofs(results, proofs)
    assert read_proofs(results) == [proofs[1], proofs[2], proofs[0]]
    lines = page(results).splitlines()
    assert any(line.startswith("1 of 27 rows passed, with 3 tests.") for line in lines)
    rows = [line for line in lines if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) == len(TABLE) + 1
    assert "| `test_ranks::a/b` | NO | 1.5 |  | 3 |" in rows[0]
    assert "kill_rank 3, cut_link 2" in rows[-1]
    assert sum("not measured yet" in row for row in rows) == len(TABLE) - 2
