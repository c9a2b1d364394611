"""`muster sweep extend` where Slurm refuses, breaks off or comes back: no point is lost, none is sent twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher import cli
from launcher.runs.submissions import read_submissions
from launcher.sweep.folder import SweepFolder, list_sweeps, locked, read
from tests.unit.slurm_site import calls, make_site

REFUSING = """#!/bin/bash
case "$*" in
  *{only}*) echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" >&2; exit 1 ;;
esac
exec "$(dirname "$0")/sbatch.real" "$@"
"""
LARGER = ["-m", "optim.learning_rate=1e-2"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MUSTER_SQUEUE_AGE_S", "0")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return make_site(tmp_path, monkeypatch)


@pytest.fixture
def sweep(site: Path, tmp_path: Path) -> SweepFolder:
    """A sweep of two points that were sent."""
    (tmp_path / "train.jsonl").write_text('{"prompt": "a", "response": "b"}\n' * 64)
    words = ["model=tiny", "data.train_file=train.jsonl", "cluster=slurm", "train.max_steps=5", "tracking=none"]
    values = ["optim.learning_rate=1e-4,1e-3", "sweep.name=sw", "data.prepare=inline"]
    assert cli.main(["submit", *words, "-m", *values]) == 0
    (folder,) = list_sweeps(tmp_path / "runs")
    return folder


def refuse(site: Path, only: str) -> None:
    """sbatch refuses what has `only` among its arguments."""
    (site / "sbatch").rename(site / "sbatch.real")
    (site / "sbatch").write_text(REFUSING.replace("{only}", only))
    (site / "sbatch").chmod(0o755)


def allow(site: Path) -> None:
    (site / "sbatch.real").rename(site / "sbatch")


def extend(*words: str) -> int:
    return cli.main(["sweep", "extend", "sw", *words])


def jobs(sweep: SweepFolder) -> list[int]:
    """How often each point was sent."""
    return [len(read_submissions(point.folder)) for point in read(sweep).points]


@pytest.mark.parametrize("refused", ["--test-only", "--parsable"], ids=["when it is asked", "when it is sent"])
def test_what_slurm_refuses_is_sent_by_the_same_command(
    refused: str, site: Path, sweep: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(site, refused)
    before = sweep.sweep_json.read_bytes()
    assert extend(*LARGER) == 3
    assert "Job violates" in capsys.readouterr().err
    assert (sweep.sweep_json.read_bytes() == before) == (refused == "--test-only")
    allow(site)
    assert extend(*LARGER) == 0
    assert "2 ended otherwise; 1 point sent now" in capsys.readouterr().out
    assert jobs(sweep) == [1, 1, 1]
    sent = len(calls(site))
    assert extend(*LARGER) == 0
    assert "3 ended otherwise; nothing is left to send" in capsys.readouterr().out
    assert (jobs(sweep), len(calls(site))) == ([1, 1, 1], sent)


def test_a_point_that_was_written_down_and_never_made_is_counted_as_left_and_sent(
    site: Path, sweep: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a command leaves it that died in between: `retry` has nothing to send it from, `extend` has."""
    assert extend(*LARGER) == 0
    lost = read(sweep).points[-1].folder
    lost.path.rename(lost.path.with_name("gone"))
    capsys.readouterr()
    assert cli.main(["sweep", "retry", "sw"]) == 0
    said = capsys.readouterr().out
    assert "2 points sent now, 1 point not sent" in said
    assert "the command that made or extended the sweep sends" in said
    assert extend(*LARGER) == 0
    assert "2 ended otherwise; 1 point sent now" in capsys.readouterr().out
    assert jobs(sweep) == [2, 2, 1]


def test_points_that_another_command_adds_meanwhile_stay(site: Path, sweep: SweepFolder, tmp_path: Path) -> None:
    """It adds them as soon as this command begins to look around, which asks sbatch for its version."""
    with locked(sweep):
        assert extend(*LARGER) == 1
    before = sweep.sweep_json.read_bytes()
    assert extend("-m", "optim.learning_rate=2e-2") == 0
    others = tmp_path / "others.json"
    others.write_bytes(sweep.sweep_json.read_bytes())
    sweep.sweep_json.write_bytes(before)
    meanwhile = f"#!/bin/bash\n[[ $* != --version ]] || cp {others} {sweep.sweep_json}\n"
    script = (site / "sbatch").read_text()
    (site / "sbatch").write_text(script.replace("#!/bin/bash\n", meanwhile))
    assert extend(*LARGER) == 0
    assert len({point.identity for point in read(sweep).points}) == 4


def test_what_does_not_fit_is_refused_before_anything_is_written(
    site: Path, sweep: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sweep.sweep_json.read_bytes()
    assert extend("-m", "cluster.gres=gpu:1", "cluster.gpu_memory_gib=0.001", "train.precision=fp32", *LARGER[1:]) == 2
    assert "cluster.memory_check" in capsys.readouterr().err
    assert (sweep.sweep_json.read_bytes(), jobs(sweep)) == (before, [1, 1])
