"""Sending the points of a sweep: which array holds what, and that nothing is lost or sent twice when it breaks off."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shlex
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.outcome import State
from conf.record import encode_plan, read_plan
from conf.schema import Access, ClusterKind, SweepConfig
from launcher.problems import MusterError, NotFoundError, SchedulerError
from launcher.runs.standing import stand
from launcher.runs.submissions import EXPORT, PREPARE, TRAIN, read_submissions
from launcher.sweep import folder as sweep_folder
from launcher.sweep.again import cancel_points, retry_points
from launcher.sweep.arrays import Member, array_script, batches, resource_lines
from launcher.sweep.control import alone, ask_to_leave
from launcher.sweep.doubt import settle
from launcher.sweep.folder import SweepFolder, create, folder_of, locked
from launcher.sweep.jobs import Jobs
from launcher.sweep.ledger import SENDING, Ledger, ranges
from launcher.sweep.phase import Phase, asked_jobs, phase_of
from launcher.sweep.record import Sweep, SweptPoint, read_sweep
from slurm.client import Client
from tests.unit.runs import begin, end, make_run
from tests.unit.slurm_site import calls, make_site, put_in_queue


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MUSTER_SQUEUE_AGE_S", "0")
    return make_site(tmp_path, monkeypatch)


@pytest.fixture
def runs(tmp_path: Path) -> list[RunFolder]:
    """Five runs: those with odd seeds ask for one node, the others for two. Their data is prepared."""
    made = []
    for seed in range(1, 6):
        run = make_run(tmp_path / "runs", name=f"point-{seed}", kind=ClusterKind.slurm, seed=seed)
        if seed % 2 == 0:
            script = run.job_sbatch.read_text()
            run.job_sbatch.write_text(script.replace("--nodes=1", "--nodes=2"))
        run.data_json.write_text("{}")
        made.append(run)
    return made


@pytest.fixture
def sweep(tmp_path: Path, runs: list[RunFolder]) -> SweepFolder:
    """The sweep of these runs, of which nothing was sent."""
    folder = folder_of(tmp_path / "runs", "point-12345678")
    points = [SweptPoint([f"train.seed={n}"], run.path.name, str(run.path), f"{n}") for n, run in enumerate(runs, 1)]
    create(folder, Sweep("point-12345678", "submit", ["train.seed=1,2,3,4,5"], str(tmp_path), points), Access.private)
    return folder


def members(runs: Sequence[RunFolder]) -> list[Member]:
    return [
        Member(SweptPoint([], run.path.name, str(run.path), ""), read_plan(run.run_json), run.job_sbatch.read_text())
        for run in runs
    ]


def send(sweep: SweepFolder, runs: Sequence[RunFolder], **keys: int) -> Jobs:
    every = read_sweep(sweep.sweep_json).points
    jobs = Jobs(sweep, SweepConfig(**keys), asked_jobs(point.folder for point in every))
    jobs.send(members(runs))
    return jobs


def arguments(site: Path) -> list[list[str]]:
    """What each sbatch was asked, without the path of the script's folder."""
    return [[*words[1:-1], Path(words[-1]).name] for words in map(shlex.split, calls(site)) if words[0] == "--parsable"]


DATABASE = """#!/bin/bash
case "$*" in
  *associations*cluster=here*) printf '%s\\n' 'lab|debug|normal||1||' 'lab|gpu|normal||||' ;;
  *associations*) echo 'lab||normal||0||' ;;
  *' user '*) echo lab ;;
esac
"""
DEFAULT_IS_DEBUG = """#!/bin/bash
printf '%s\\x1fup\\x1finfinite\\x1f1\\x1f1-infinite\\x1f1\\x1f1\\x1f(null)\\n' 'debug*' gpu
"""


@pytest.mark.parametrize(("partition", "limit"), [("debug", 1), ("gpu", None), (None, 1)], ids=str)
def test_an_account_is_limited_as_its_partition_on_this_cluster_is(
    partition: str | None, limit: int | None, site: Path
) -> None:
    scontrol = '#!/bin/bash\necho "ClusterName             = here"\n'
    for name, text in {"scontrol": scontrol, "sacctmgr": DATABASE, "sinfo": DEFAULT_IS_DEBUG}.items():
        (site / name).write_text(text)
        (site / name).chmod(0o755)
    room = Client().room(None, None, partition)
    assert (room and room.limit) == limit


RANGES = [([0], "0"), ([0, 1, 2], "0-2"), ([0, 2, 3, 7], "0,2-3,7"), ([3, 1], "1,3")]


@pytest.mark.parametrize(("indices", "text"), RANGES, ids=[text for _, text in RANGES])
def test_indices_as_sbatch_takes_them(indices: list[int], text: str) -> None:
    assert ranges(indices) == text


SIZES = {
    "no limit": (None, [[1, 3, 5], [2, 4]]),
    "at most two": (2, [[1, 3], [5], [2, 4]]),
    "no arrays on this site": (0, [[1], [3], [5], [2], [4]]),
}


@pytest.mark.parametrize(("limit", "expected"), SIZES.values(), ids=SIZES)
def test_points_that_ask_for_the_same_are_together(
    limit: int | None, expected: list[list[int]], runs: list[RunFolder]
) -> None:
    found = batches(members(runs), limit)
    assert [[member.plan.config.train.seed for member in batch.members] for batch in found] == expected
    assert [batch.is_array for batch in found] == [len(batch) > 1 for batch in expected]


def test_the_script_of_an_array_holds_no_value_of_a_point(tmp_path: Path) -> None:
    """Elements start the run of their line; what sbatch is asked is what a run alone asks, but for names."""
    nasty = tmp_path / 'it\'s $(touch gone) "a", b'
    runs = [make_run(nasty, name=f"p{seed}", kind=ClusterKind.slurm, seed=seed) for seed in (1, 2)]
    sweep = SweepFolder(nasty / "sweeps" / "p-1")
    (batch,) = batches(members(runs), None)
    script = array_script(sweep, 0, batch)
    assert resource_lines(script) == resource_lines(runs[0].job_sbatch.read_text())
    assert "p1" not in script
    for run in runs:
        run.job.body.write_text('printf "%s\\n" "$PWD" "$@"')
    sweep.arrays.mkdir(parents=True)
    sweep.points(0).write_text("".join(f"{run.path}\n" for run in runs))
    said = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": "/bin:/usr/bin", "SLURM_ARRAY_TASK_ID": "1"},
        capture_output=True,
        text=True,
    )
    assert said.stdout.splitlines() == [str(runs[1].path), "batch", str(runs[1].path)]
    none = subprocess.run(["bash", "-c", script], env={"SLURM_ARRAY_TASK_ID": "7"}, capture_output=True, text=True)
    assert none.returncode != 0
    assert not list(tmp_path.rglob("gone"))


def test_each_kind_of_points_is_one_array_and_each_run_knows_its_element(
    sweep: SweepFolder, runs: list[RunFolder], site: Path
) -> None:
    jobs = send(sweep, runs)
    assert arguments(site) == [["--array=0-2", "00.sbatch"], ["--array=0-1", "01.sbatch"]]
    assert jobs.calls == 2
    found = [[sent.job_id for sent in read_submissions(run)] for run in runs]
    assert found == [["41_0"], ["42_0"], ["41_1"], ["42_1"], ["41_2"]]
    assert sweep.points(1).read_text().split() == [str(runs[1].path), str(runs[3].path)]
    events = [(line["event"], line["array"]) for line in map(json.loads, sweep.ledger.read_text().splitlines())]
    assert events == [("sending", 0), ("sent", 0), ("sending", 1), ("sent", 1)]
    put_in_queue(site, "41_1", "RUNNING", sweep.script(0))
    live = asked_jobs(runs)
    assert [phase_of(run, live) for run in runs] == [Phase.ended, Phase.ended, Phase.live, Phase.ended, Phase.ended]
    assert stand(runs[2], live).job == "slurm:41_1"


def test_one_alone_is_a_plain_job_and_at_most_so_many_at_a_time(
    sweep: SweepFolder, runs: list[RunFolder], site: Path
) -> None:
    send(sweep, runs, max_array_size=2, max_parallel=1)
    kill = "--kill-on-invalid-dep=yes"
    assert arguments(site) == [
        ["--array=0-1%1", "00.sbatch"],
        ["--dependency=afterany:41", kill, "job.sbatch"],
        ["--array=0-1%1", "--dependency=afterany:42", kill, "01.sbatch"],
    ]
    assert [sent.job_id for sent in read_submissions(runs[4])] == ["42"]


def test_shared_data_is_prepared_once_and_the_arrays_wait_for_it(
    sweep: SweepFolder, runs: list[RunFolder], site: Path
) -> None:
    for run in runs:
        run.data_json.unlink()
    send(sweep, runs)
    after = ["--dependency=afterok:41", "--kill-on-invalid-dep=yes"]
    assert arguments(site) == [
        ["prepare.sbatch"],
        ["--array=0-2", *after, "00.sbatch"],
        ["--array=0-1", *after, "01.sbatch"],
    ]
    assert [(sent.purpose, sent.job_id) for sent in read_submissions(runs[0])] == [(PREPARE, "41"), (TRAIN, "42_0")]
    put_in_queue(site, "41", "RUNNING", runs[0].job.prepare_sbatch)
    send(sweep, runs[1:2])  # as a sweep that goes on: the same job prepares for it
    assert arguments(site)[3] == [*after, "job.sbatch"]


def test_exports_of_an_array_wait_for_their_own_element(sweep: SweepFolder, runs: list[RunFolder], site: Path) -> None:
    for run in runs:
        run.run_json.write_text(encode_plan(replace(read_plan(run.run_json), export_at_end=False)))
    send(sweep, runs[::2])
    assert arguments(site)[1][1] == "--dependency=aftercorr:41"
    assert sweep.script(0, EXPORT).read_text().rstrip().endswith('batch "$run" export')
    assert [(sent.purpose, sent.job_id) for sent in read_submissions(runs[2])] == [(TRAIN, "41_1"), (EXPORT, "42_1")]


def test_an_array_that_nobody_answered_for_is_found_and_not_sent_again(
    sweep: SweepFolder, runs: list[RunFolder], site: Path
) -> None:
    """The shell died between sbatch and the ledger: Slurm has the array, so it becomes that of the points."""
    Jobs(sweep, SweepConfig(), {}).send(members(runs[::2]))
    lines = sweep.ledger.read_text().splitlines(keepends=True)
    sweep.ledger.write_text(lines[0])
    for run in runs:
        run.submissions.unlink(missing_ok=True)
    put_in_queue(site, "77_0", "PENDING", sweep.script(0))
    assert [phase_of(run, asked_jobs(runs)) for run in runs[::2]] == [Phase.new] * 3
    settle(sweep)
    assert [[sent.job_id for sent in read_submissions(run)] for run in runs[::2]] == [["77_0"], ["77_1"], ["77_2"]]
    before = sweep.ledger.read_text()
    settle(sweep)
    assert sweep.ledger.read_text() == before
    assert Ledger(sweep).job_ids() == ["77"]


def test_an_array_that_is_over_is_known_by_what_its_elements_wrote(
    sweep: SweepFolder, runs: list[RunFolder], site: Path
) -> None:
    Jobs(sweep, SweepConfig(), {}).send(members(runs[::2]))
    sweep.ledger.write_text(sweep.ledger.read_text().splitlines(keepends=True)[0])
    for run in runs:
        run.submissions.unlink(missing_ok=True)
    begin(runs[2], 0, job="slurm:78_1", host="node1")
    end(runs[2], state=State.done)
    settle(sweep)
    assert [sent.job_id for sent in read_submissions(runs[0])] == ["78_0"]
    assert [phase_of(run, {}) for run in runs[::2]] == [Phase.ended, Phase.done, Phase.ended]


def test_an_array_that_slurm_never_had_is_sent_under_a_new_number(
    sweep: SweepFolder, runs: list[RunFolder], site: Path
) -> None:
    Ledger(sweep).write(SENDING, TRAIN, array=0, indices=[0, 1])
    sweep.points(0).write_text(f"{runs[0].path}\n{runs[2].path}\n")
    settle(sweep)
    assert [phase_of(run, {}) for run in runs] == [Phase.new] * 5
    send(sweep, runs[::2])
    assert arguments(site) == [["--array=0-2", "01.sbatch"]]


def test_a_refused_array_leaves_what_was_sent_and_the_rest_new(
    sweep: SweepFolder, runs: list[RunFolder], site: Path
) -> None:
    text = (site / "sbatch").read_text()
    refusing = (
        'case "$*" in *01.sbatch) echo "sbatch: error: Batch job submission failed: Job violates" >&2; exit 1;; esac\n'
    )
    (site / "sbatch").write_text(text.replace("#!/bin/bash\n", "#!/bin/bash\n" + refusing))
    with pytest.raises(SchedulerError, match="Job violates"):
        send(sweep, runs)
    settle(sweep)
    assert [phase_of(run, {}) for run in runs] == [Phase.ended, Phase.new, Phase.ended, Phase.new, Phase.ended]
    (site / "sbatch").write_text(text)
    send(sweep, [runs[1], runs[3]])
    assert arguments(site)[-1] == ["--array=0-1", "02.sbatch"]
    assert len(Ledger(sweep).job_ids()) == 2


def test_retry_sends_what_ended_badly_and_leaves_the_rest(
    sweep: SweepFolder, runs: list[RunFolder], site: Path
) -> None:
    send(sweep, runs)
    for run, state in ((runs[0], State.done), (runs[2], State.failed), (runs[1], State.cancelled)):
        begin(run, 0, job="slurm:41_0", host="node1")
        end(run, state=state)
    runs[1].stop.write_text("cancelled\n")
    put_in_queue(site, "42_1", "RUNNING", sweep.script(1))
    submitted = retry_points(sweep, read_sweep(sweep.sweep_json))
    assert {phase: submitted.counts[phase] for phase in Phase} == {
        Phase.new: 3, Phase.live: 1, Phase.ended: 0, Phase.done: 1
    }  # fmt: skip
    assert arguments(site)[2:] == [["job.sbatch"], ["--array=0-1", "02.sbatch"]]
    assert sweep.points(2).read_text().split() == [str(runs[2].path), str(runs[4].path)]
    assert not runs[1].stop.exists()


def test_cancel_takes_waiting_points_first(sweep: SweepFolder, runs: list[RunFolder], site: Path) -> None:
    send(sweep, runs)
    put_in_queue(site, "41_0", "RUNNING", sweep.script(0))
    put_in_queue(site, "41_2", "PENDING", sweep.script(0))
    said = cancel_points(read_sweep(sweep.sweep_json))
    assert [line.split()[0] for line in said] == [runs[4].path.name, runs[0].path.name]
    assert calls(site)[-2:] == ["scancel 41_2", "scancel 41_0"]


def test_one_command_at_a_time(sweep: SweepFolder) -> None:
    with locked(sweep), pytest.raises(MusterError, match="another command works on the sweep"), locked(sweep):
        pass
    with locked(sweep):
        pass


def test_a_file_system_without_locks_is_named(sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lustre without `flock` says ENOSYS, NFS 3 without lockd ENOLCK; nobody holds anything there."""
    monkeypatch.setattr(fcntl, "flock", refuse_locks)
    for lock in (locked, alone):
        with pytest.raises(MusterError, match=r"No locks available.*run_root"), lock(sweep):
            pass
    assert sweep.controller_lock.exists()
    assert ask_to_leave(sweep) == []


def refuse_locks(_descriptor: int, _kind: int) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_the_folder_is_private_made_once_and_found(sweep: SweepFolder, tmp_path: Path) -> None:
    assert stat.S_IMODE(sweep.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(sweep.sweep_json.stat().st_mode) == 0o600
    before = sweep.sweep_json.read_bytes()
    assert not create(sweep, Sweep("point-12345678", "submit", [], "", []), Access.private)
    assert sweep.sweep_json.read_bytes() == before
    for argument in ("point", "point-12345678", str(sweep.path)):
        assert sweep_folder.find(argument, tmp_path / "runs") == sweep
    with pytest.raises(NotFoundError, match=r"no sweep 'other'.*it has point-12345678"):
        sweep_folder.find("other", tmp_path / "runs")
    sweep.path.chmod(0o707)
    with pytest.raises(MusterError, match="only you can write in"), locked(sweep):
        pass


def test_a_submission_away_from_the_controller_stays_open(
    sweep: SweepFolder, runs: list[RunFolder], site: Path
) -> None:
    """Nobody knows whether sbatch was heard: the ledger keeps the question instead of a refusal."""
    gone = '#!/bin/bash\necho "sbatch: error: Unable to contact slurm controller (connect failure)" >&2\nexit 1\n'
    (site / "sbatch").write_text(gone)
    jobs = Jobs(sweep, SweepConfig(), {})
    jobs.clients[None] = Client(None, patience_s=0.0)
    with pytest.raises(SchedulerError):
        jobs.send(members(runs[::2]))
    assert [entry.event for entry in Ledger(sweep).entries()] == [SENDING]
