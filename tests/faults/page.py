"""The table of faults as it was last measured: benchmarks/results/faults.json, and docs/faults.md made from it.

`python -m tests.faults.page > docs/faults.md`; `make faults` does it by itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import machine
from tests.faults.table import TABLE, Proof, lines

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "faults.json"
PAGE = ROOT / "docs" / "faults.md"

HEAD = """\
# Faults, broken on purpose

```bash
make faults
```

breaks real processes, links, disks, files and services, of real runs by the command line and, where nodes are spoken
of, on a real Slurm; it takes hours and writes this page. `make test` runs a part that covers each class. What a run
does about each: [surviving.md](surviving.md); what you see: [troubleshooting.md](troubleshooting.md).

Seconds are those of the machine below, which had other work to do. *Exact* is: final weights equal, bit for bit, to
those of a run that nothing disturbed. *Goodput* is useful step time / wall time. Ranks on CPUs talk over gloo, which
hears of a lost peer at once; over NCCL they wait for a watchdog, so the last column says *no* until somebody saw it on
GPUs.
"""


def page(results: Path) -> str:
    """The page, from what was measured last."""
    proofs = read_proofs(results)
    machines = json.loads(results.read_text())["machine"] if proofs else {}
    failed = [proof for proof in proofs if not proof.passed]
    proven = len({proof.row for proof in proofs if proof.passed} - {proof.row for proof in failed})
    about = "; ".join(f"{name} {value}" for name, value in machines.items())
    tests = len({proof.case for proof in proofs})
    summary = f"{proven} of {len(TABLE)} rows passed, with {tests} tests. Machine: {about or 'none yet'}."
    return "\n".join([HEAD, summary, "", *lines(proofs)]) + "\n"


def read_proofs(results: Path) -> list[Proof]:
    """What was measured last; nothing before the first time."""
    try:
        content = json.loads(results.read_text())
    except FileNotFoundError:
        return []
    return [
        Proof(
            each["row"],
            each["case"],
            each["passed"],
            {name: value for name, value in each.items() if name not in ("row", "case", "passed")},
        )
        for each in content["figures"]
    ]


def write_proofs(results: Path, proofs: Sequence[Proof]) -> None:
    """Keep what was measured, by row."""
    ordered = sorted(proofs, key=lambda proof: (proof.row, proof.case))
    content = {
        "name": "faults",
        "title": "Faults that a run survives",
        "command": "make faults",
        "machine": machine(),
        "figures": [
            {"row": proof.row, "case": proof.case, "passed": proof.passed, **proof.figures} for proof in ordered
        ],
    }
    results.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    print(page(RESULTS), end="")
