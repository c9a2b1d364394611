"""`resume` and `reproduce` where Slurm, the memory or a key refuses: nothing is written, the next try has its way."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.record import read_plan
from conf.schema import ClusterKind
from launcher import cli
from launcher.runs.submissions import read_submissions
from tests.unit.runs import make_run
from tests.unit.slurm_site import make_site

REFUSES_TYPO = """#!/bin/bash
if grep -q -- --partition=typo "${@: -1}" 2>/dev/null; then
  echo "sbatch: error: invalid partition specified: typo" >&2
  exit 1
fi
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run on a site whose sbatch takes every partition but `typo`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    site = make_site(tmp_path, monkeypatch)
    (site / "sbatch").write_text((site / "sbatch").read_text().replace("#!/bin/bash\n", REFUSES_TYPO))
    root = tmp_path / "runs"
    root.mkdir()
    (root / "train.jsonl").write_text('{"prompt": "a", "response": "b"}\n' * 32)
    return make_run(root, kind=ClusterKind.slurm)


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


TOO_LITTLE = ["cluster.gres=gpu:1", "cluster.ranks_per_node=1", "cluster.gpu_memory_gib=0.001"]
REFUSED = {
    "by Slurm": (["cluster.partition=typo"], 3, "about: cluster.partition=typo"),
    "for memory": (TOO_LITTLE, 2, "refuses what does not fit"),
    "a name": (["name=zzz"], 2, "name=zzz is another run's; this one keeps its id and its folder; nearest: demo"),
    "a name by force": (["name=zzz", "--force"], 2, "name=zzz is another run's"),
    "a run root": (["run_root=elsewhere"], 2, "/elsewhere is another run's"),
}


@pytest.mark.parametrize(("words", "code", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_leaves_the_run_as_it_was(
    words: list[str], code: int, said: str, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(folder.path)
    assert cli.main(["resume", "demo", *words]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert contents(folder.path) == before
    assert cli.main(["resume", "demo"]) == 0
    assert len(read_submissions(folder)) == 1


def test_what_is_taken_is_written_and_sent(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TOO_LITTLE, "cluster.memory_check=false", "cluster.partition=gold", "name=demo", "run_root=./runs"]
    assert cli.main(["resume", "demo", *words]) == 0, capsys.readouterr().err
    assert read_plan(folder.run_json).config.cluster.partition == "gold"
    assert len(read_submissions(folder)) == 1


def test_a_run_once_more_that_slurm_refuses_leaves_no_folder(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    typo = make_run(folder.path.parent, "typo", kind=ClusterKind.slurm)
    text = typo.run_json.read_text()
    typo.run_json.write_text(text.replace('"partition": null', '"partition": "typo"'))
    before = contents(folder.path.parent)
    for name in ([], ["--name", "q"], ["--name", "q"]):
        assert cli.main(["reproduce", "typo", *name]) == 3
        captured = capsys.readouterr()
        assert "about: cluster.partition=typo" in captured.err
        assert captured.out == ""
    assert contents(folder.path.parent) == before
    typo.run_json.write_text(text)
    assert cli.main(["reproduce", "typo", "--name", "q"]) == 0
    said = capsys.readouterr().out
    assert "would start at 2026-01-01T00:00:00 on n1" in said
    (again,) = folder.path.parent.glob("q-*")
    assert len(read_submissions(RunFolder(again))) == 1
