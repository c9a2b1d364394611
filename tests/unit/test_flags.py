"""Flags of the verbs: those that do not go together or are out of range are refused, none is left unheard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conf.outcome import State
from launcher import cli
from tests.unit.runs import begin, end, make_run

TINY = ["model=tiny", "data.train_file=train.jsonl", "train.max_steps=5", "tracking=none", "cluster.ranks_per_node=1"]
SWEPT = ["-m", "optim.learning_rate=1e-4,1e-3"]
SEARCH = ["sweep=optuna", "sweep.metric=train/loss", "-m", "optim.learning_rate=interval(1e-5,1e-3)"]


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data and a run that has a log."""
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text('{"prompt": "a", "response": "b"}\n' * 64)
    folder = make_run(tmp_path / "runs")
    attempt = begin(folder, pid=2**22 + 1)
    attempt.rank_log(0, 0).write_text("one\ntwo\nthree\n")
    end(folder, state=State.done)
    return tmp_path


REFUSED = {
    "two things to show": (["plan", *TINY, "--json", "--show", "job.sh"], "--json --show do not go together"),
    "all of them": (
        ["plan", *TINY, "--json", "--show", "job.sh", "--files", "D", "--table", "--when"],
        "--json --show --files --table --when do not go together",
    ),
    "when in JSON": (["plan", *TINY, "--json", "--when"], "--json --when do not go together"),
    "when of many": (["plan", *TINY, "--when", *SWEPT], "--when asks when one job would start, and -m gives several"),
    "a search in JSON": (["plan", *TINY, "--json", *SEARCH], "--json does not go with sweep=optuna"),
    "a file of a search": (["plan", *TINY, "--show", "job.sh", *SEARCH], "--show does not go with sweep=optuna"),
    "files of a search": (["plan", *TINY, "--files", "D", *SEARCH], "--files does not go with sweep=optuna"),
    "files where a file is": (
        ["plan", *TINY, "--files", "train.jsonl"],
        "--files=train.jsonl has to be a new or empty",
    ),
    "files below a file": (["plan", *TINY, "--files", "train.jsonl/x"], "--files=train.jsonl/x cannot be written in"),
    "a run root of data": (["data", *TINY, "--run-root", "there"], "--run-root=there says where RUN is looked for"),
    "a log in JSON that goes on": (["logs", "demo", "--json", "-f"], "--follow does not go with --json"),
    "an error that goes on": (["logs", "demo", "-f", "--first-error"], "--follow does not go with --first-error"),
    "a rank of the first error": (["logs", "demo", "--first-error", "--rank", "0"], "--rank=0 does not go with"),
    "no lines": (["logs", "demo", "-n", "0"], "--lines=0 has to be 1 or more; nearest: 1"),
    "fewer than no lines": (["logs", "demo", "-n", "-2"], "--lines=-2 has to be 1 or more"),
    "days that are no number": (["nodes", "add", "n1", "--why", "x", "--days", "nan"], "--days=nan has to be above 0"),
    "days gone by": (["nodes", "add", "n1", "--why", "x", "--days", "-1"], "--days=-1 has to be above 0"),
    "days of no node": (["nodes", "--days", "3"], "--days goes with `add NODE`"),
}


@pytest.mark.parametrize(("words", "said"), REFUSED.values(), ids=REFUSED)
def test_flags_that_mean_nothing_are_refused(
    words: list[str], said: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(work.rglob("*"))
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert sorted(work.rglob("*")) == before


def test_many_plans_are_one_list(capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: str) -> list[object]:
        assert cli.main(["plan", *TINY, "--json", *words]) == 0
        found: list[object] = json.loads(capsys.readouterr().out)
        return found

    alone = [told("optim.learning_rate=1e-4"), told("optim.learning_rate=1e-3")]
    assert [one["plan"]["config"]["optim"] for one in told(*SWEPT)] == [one["plan"]["config"]["optim"] for one in alone]
    cells = told("--table")
    assert told("--table", *SWEPT) == [cells, cells]
