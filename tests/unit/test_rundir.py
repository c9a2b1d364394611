"""Run folders: whole or absent, private or the group's, one name one content, found by any of their names."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.record import Plan
from launcher.facts.runs import gather_runs
from launcher.problems import ConfigurationError, MusterError, NotFoundError
from launcher.render.artifacts import render
from launcher.runs import rundir
from tests.unit.planned import facts_of, plan_of


def planned(root: Path, *overrides: str) -> tuple[Plan, dict[str, bytes]]:
    plan = plan_of(*overrides, run_root=str(root))
    return plan, render(plan, facts_of(run_root=str(root)))


def made(root: Path, *overrides: str) -> RunFolder:
    return rundir.create(*planned(root, *overrides))


def modes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in (folder, *folder.rglob("*"))
    }


@pytest.mark.parametrize(
    ("access", "folder_mode", "file_mode"), [("private", "0o700", "0o600"), ("group", "0o2750", "0o640")]
)
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_follow_access_and_no_umask(
    tmp_path: Path, access: str, folder_mode: str, file_mode: str, umask: int
) -> None:
    before = os.umask(umask)
    try:
        folder = made(tmp_path / "runs", f"access={access}")
    finally:
        os.umask(before)
    found = modes(folder.path)
    assert {found[name] for name in (".", "job", "code")} == {folder_mode}
    assert {mode for name, mode in found.items() if name not in (".", "job", "code")} == {file_mode}
    assert len(found) == 17


@pytest.mark.parametrize("runtime", ["none", "pyxis"])
def test_the_ledger_that_a_container_mounts_is_there(tmp_path: Path, runtime: str) -> None:
    image = [] if runtime == "none" else ["cluster.container.image=a.sqsh"]
    ledger = tmp_path / "state" / "nodes"
    words = ["cluster=slurm", f"cluster.container.runtime={runtime}", f"cluster.node_ledger={ledger}", *image]
    made(tmp_path / "runs", *words)
    assert ledger.is_dir() == (runtime != "none")


def test_a_ledger_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = ["cluster=slurm", "cluster.container.runtime=pyxis", "cluster.container.image=a.sqsh"]
    with pytest.raises(MusterError, match=r"cluster\.node_ledger=.*/file/nodes cannot be made: Not a directory"):
        made(tmp_path / "runs", *words, f"cluster.node_ledger={tmp_path}/file/nodes")
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_is_written_is_what_was_rendered(tmp_path: Path) -> None:
    plan, artifacts = planned(tmp_path)
    folder = rundir.create(plan, artifacts)
    written = {path.relative_to(folder.path).as_posix(): path.read_bytes() for path in folder.path.rglob("*.*")}
    assert written.items() <= artifacts.items()
    assert {path.name for path in tmp_path.iterdir()} == {plan.run_id}


def test_same_content_carries_on_and_takes_over_free_keys(tmp_path: Path) -> None:
    folder = made(tmp_path, "name=mine", "cluster=slurm")
    (folder.path / "metrics.jsonl").write_text("{}\n")
    again = made(tmp_path, "name=mine", "cluster.ranks_per_node=2")
    assert again == folder
    assert (folder.path / "metrics.jsonl").read_text() == "{}\n"
    assert not folder.job_sbatch.exists()
    assert "OMP_NUM_THREADS=2" in folder.job.env.read_text()


def test_other_content_under_one_id_is_refused_with_the_difference(tmp_path: Path) -> None:
    folder = made(tmp_path, "name=mine")
    run = json.loads(folder.run_json.read_bytes())
    run["config"]["optim"]["learning_rate"] = 0.5
    folder.run_json.write_text(json.dumps(run))
    with pytest.raises(ConfigurationError, match=r"optim\.learning_rate: 0\.5 → 1e-05"):
        made(tmp_path, "name=mine")


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    plan, artifacts = planned(tmp_path)
    foreign = Path(plan.run_dir)
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    with pytest.raises(MusterError, match="is no run folder"):
        rundir.create(plan, artifacts)
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path)
    folder.path.chmod(0o777)
    with pytest.raises(MusterError, match="can be written by everyone"):
        made(tmp_path)


def test_a_link_in_place_of_a_run_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path / "elsewhere")
    (tmp_path / folder.path.name).symlink_to(folder.path)
    with pytest.raises(MusterError, match="is not a folder"):
        made(tmp_path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path)
    os.chown(folder.path, 12345, 12345)
    with pytest.raises(MusterError, match="belongs to user 12345"):
        made(tmp_path)


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    plan, artifacts = planned(tmp_path)
    with pytest.raises(MusterError, match="cannot make"):
        rundir.create(plan, {**artifacts, "run.json/below": b""})
    assert list(tmp_path.iterdir()) == []


CREATOR = """
import sys, pathlib
sys.path.insert(0, sys.argv[1])
from tests.unit.test_rundir import planned
from launcher.runs import rundir
plan, artifacts = planned(pathlib.Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
print(rundir.create(plan, artifacts).path)
"""


def test_two_processes_make_one_run_at_once(tmp_path: Path) -> None:
    repository = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", CREATOR, repository, str(tmp_path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    answers = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        answers.append(process.communicate(timeout=60)[0].strip())
        assert process.returncode == 0
    plan, artifacts = planned(tmp_path)
    assert answers == [plan.run_dir] * 3
    assert [path.name for path in tmp_path.iterdir()] == [plan.run_id]
    assert (Path(plan.run_dir) / "run.json").read_bytes() == artifacts["run.json"]


def test_runs_are_found_by_name_id_folder_and_job(tmp_path: Path) -> None:
    one = made(tmp_path, "name=one")
    first = made(tmp_path, "name=two", "train.seed=1")
    second = made(tmp_path, "name=two", "train.seed=2")
    (tmp_path / "not-a-run").mkdir()
    first.submissions.write_text('{"event": "sending"}\nbroken\n{"event": "sent", "job_id": 4711}\n')
    assert rundir.list_runs(tmp_path) == sorted((one, first, second), key=lambda folder: folder.path)
    for argument in ("one", one.path.name, str(one.path)):
        assert rundir.find(argument, tmp_path) == one
    assert rundir.find("4711", tmp_path) == first
    with pytest.raises(NotFoundError, match=f"means 2 runs; give an id: .*{second.path.name}"):
        rundir.find("two", tmp_path)
    with pytest.raises(NotFoundError, match=r"no run 'three'.*it has one-"):
        rundir.find("three", tmp_path)
    with pytest.raises(NotFoundError, match="it has no runs"):
        rundir.find("one", tmp_path / "nowhere")


def test_closed_folders_of_others_are_passed_by() -> None:
    """In a run root that people share, each with private runs; names that no file system takes are nobody's."""
    with tempfile.TemporaryDirectory() as work:
        Path(work).chmod(0o755)
        mine, theirs = made(Path(work), "name=mine"), made(Path(work), "name=theirs")
        mine.path.chmod(0o755)
        theirs.path.chmod(0o000)
        root = os.getuid() == 0
        if root:
            os.seteuid(65534)
        try:
            assert rundir.list_runs(work) == [mine]
            assert rundir.find("mine", work) == mine
            for name in (theirs.path.name, "x" * 300):
                with pytest.raises(NotFoundError, match="it has mine"):
                    rundir.find(name, work)
        finally:
            if root:
                os.seteuid(0)
            theirs.path.chmod(0o700)


def test_runs_of_a_name_are_gathered_with_their_content(tmp_path: Path) -> None:
    folder = made(tmp_path, "name=two")
    made(tmp_path, "name=two-more")
    runs, error = gather_runs(tmp_path, "two")
    assert error == ""
    assert [run.path for run in runs] == [str(folder.path)]
    assert runs[0].content["train.seed"] == 42


def test_run_root_that_others_can_write_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert "by everyone" in gather_runs(tmp_path / "runs", "x")[1]
    tmp_path.chmod(0o1777)
    assert gather_runs(tmp_path / "runs", "x")[1] == ""


def test_one_job_holds_the_lock(tmp_path: Path) -> None:
    folder = made(tmp_path)
    assert rundir.take_lock(folder, "slurm:1") is None
    assert rundir.take_lock(folder, "slurm:2") == "slurm:1"
    assert rundir.take_lock(folder, "slurm:1") is None
    rundir.release_lock(folder, "slurm:2")
    assert rundir.read_lock(folder) == "slurm:1"
    rundir.release_lock(folder, "slurm:1")
    assert rundir.read_lock(folder) is None
    assert not [path.name for path in folder.path.iterdir() if path.name.startswith(".")]
