"""What verbs tell scripts and people of runs with odd numbers, and of files that cannot be read or written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from conf.outcome import State
from conf.schema import Access
from launcher import cli
from launcher.sweep.folder import create, folder_of
from launcher.sweep.record import Sweep, SweptPoint
from tests.unit.runs import append, begin, end, make_run, metrics


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path)


def strict(text: str) -> Any:
    """What is JSON by its own rules, which know neither NaN nor Infinity."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("loss", ["nan", "inf", "-inf"])
def test_numbers_that_json_has_not_are_null(
    loss: str, folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str) -> Any:
        assert cli.main([*words, "--json", "--run-root", str(tmp_path)]) == 0
        return strict(capsys.readouterr().out)

    other = make_run(tmp_path, "other")
    begin(folder, pid=2**22 + 1)
    append(folder.metrics, metrics(10, 2.5) | {"train/loss": loss})
    end(folder, state=State.failed, reason="NaN", step=10)
    for standing in (told("status", "demo")[0], told("status", "demo", "-w")):
        assert (standing["step"], standing["loss"]) == (10, None)
    results = told("diff", "demo", "other")["parts"]["results"]
    assert (results["step"], results["train/loss, last"]) == ([10, 0], [None, None])
    assert not any(told("diff", "demo", "demo")["parts"].values())
    points = [SweptPoint([], run.path.name, str(run.path), run.path.name) for run in (folder, other)]
    create(folder_of(tmp_path, "two-12345678"), Sweep("two-12345678", "run", [], "/", points), Access.private)
    first, _ = told("sweep", "status", "two")["points"]
    assert (first["step"], first["loss"]) == (10, None)


@pytest.mark.parametrize("flags", [[], ["--json"], ["-w"], ["-w", "--json"]], ids=" ".join)
def test_what_cannot_be_read_is_an_error_where_it_was_named(
    flags: list[str], folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = make_run(tmp_path, "broken")
    broken.run_json.write_text(broken.run_json.read_text()[:100])
    for named, code in ((["demo", "broken"], 1), (["broken"], 1), ([], 0)):
        assert cli.main(["status", *named, *flags, "--run-root", str(tmp_path)]) == code
        captured = capsys.readouterr()
        assert (folder.path.name in captured.out) == (named != ["broken"])
        assert f"cannot be read: {broken.path}" in captured.err


@pytest.mark.parametrize("verb", ["why", "report", "stop", "cancel", "resume", "reproduce", "diff"])
def test_a_run_of_another_version_is_said_in_words(
    verb: str, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.run_json.write_text(json.dumps(json.loads(folder.run_json.read_text()) | {"schema_version": 999}))
    assert cli.main([verb, *[str(folder.path)] * (1 + (verb == "diff"))]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{folder.run_json} has schema version 999; this Muster reads ")


@pytest.mark.parametrize("target", ["none/r.html", "file/r.html", "."], ids=["no folder", "a file", "a folder"])
def test_a_report_that_cannot_be_written_is_said_with_its_flag(
    target: str, folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / target
    assert cli.main(["report", str(folder.path), "-o", str(output)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"--output={output} cannot be written in {output.parent}: ")
    assert ".tmp" not in said
