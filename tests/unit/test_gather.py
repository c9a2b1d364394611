"""Gathering for real: the demo in an empty folder, twice the same bytes; what is absent is recorded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launcher.compose.compose import compose
from launcher.facts.gather import gather
from launcher.plan.plan import make_plan
from launcher.render.artifacts import render


def test_the_demo_is_planned_twice_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = compose(["experiment=demo"])
    facts = gather(config)
    assert facts.run_root == str(tmp_path / "runs")
    assert facts.python == sys.executable
    assert facts.slurm is None
    assert sorted(facts.data_files) == ["data.train_file", "data.validation_file"]
    assert [file.error for file in facts.data_files.values()] == ["", ""]
    assert all(file.rows and file.broken is None for file in facts.data_files.values())
    first = render(make_plan(config, facts), facts)
    facts = gather(config)
    assert render(make_plan(config, facts), facts) == first
    assert list(tmp_path.iterdir()) == []


def test_absent_slurm_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    facts = gather(compose(["experiment=demo", "cluster=slurm"]))
    assert facts.slurm is not None
    assert facts.slurm.error
    assert facts.slurm.partitions == ()
    assert facts.code.project is None
    assert any("git" in note for note in facts.code.notes)


def test_a_chat_template_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    config = compose(["experiment=demo", "data.chat_template=chat.jinja"])
    facts = gather(config)
    assert make_plan(config, facts).config.data.chat_template == "{{ messages }}"
