"""Two runs side by side, and a run once more: what differs is said, what changed is refused, commands are exact."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.layout import RunFolder
from conf.outcome import State
from conf.record import read_plan
from launcher import cli
from launcher.compare.difference import difference
from launcher.compare.overrides import command_of, overrides_of
from launcher.compose.compose import compose
from launcher.compose.grammar import written
from launcher.plan.content import content_of
from launcher.send.reproduce import changed_data, free_name, remarks
from launcher.show.diff_page import diff_lines
from launcher.show.line import width_of
from tests.unit.runs import append, begin, end, make_run, metrics

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
ODD = 'it\'s a "name", with ${oc.env:HOME}, {braces}, [lists] and a\\'


def filled(root: Path, name: str, **train: Any) -> RunFolder:
    folder = make_run(root, name, **train)
    begin(folder)
    append(folder.metrics, *(metrics(step, 5.0 / step, **{"perf/tokens_per_second": 100.0}) for step in range(1, 11)))
    data = root / f"{name}.jsonl"
    data.write_text(f'{{"text": "{name}"}}\n')
    part = {"source": str(data), "digest": hashlib.sha256(data.read_bytes()).hexdigest(), "name": ""}
    split = {"documents": 10, "tokens": 50, "targets": 50, "longest": 9, "parts": [part]}
    folder.data_json.write_text(json.dumps({"splits": {"train": split}, "digest": name, "vocabulary": 512}))
    end(folder, state=State.done, reason="all steps are done", step=10, metrics={"eval/loss": 0.5})
    return folder


def test_what_differs_is_aligned_and_what_is_the_same_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path, "one")
    filled(tmp_path, "two", seed=7)
    words = ["diff", "one", "two", "--run-root", str(tmp_path)]
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parts"]["configuration"] == {"train.seed": [42, 7]}
    assert found["parts"]["data"]["prepared data"] == ["one", "two"]
    assert set(found["parts"]["data"]) == {"train.0.source", "train.0.sha256", "prepared data"}
    assert found["parts"]["versions"] == {}
    assert cli.main([*words, "--only", "configuration"]) == 0
    said = capsys.readouterr().out
    assert "train.seed  42 → 7" in said
    assert "prepared data" not in said
    assert cli.main(["diff", "one", "one", "--run-root", str(tmp_path)]) == 0
    assert "nothing differs" in capsys.readouterr().out
    assert cli.main([*words, "--only", "config"]) == 2
    assert "nearest: configuration" in capsys.readouterr().err


@settings(deadline=None)
@given(
    st.dictionaries(st.text("abc.", min_size=1), st.one_of(st.none(), st.integers(), st.text(max_size=90)), max_size=6)
)
def test_a_difference_has_both_ways_the_same_keys_and_fits(values: dict[str, Any]) -> None:
    other = {key: value for key, value in values.items() if isinstance(value, str)} | {"new": 1.5}
    found, back = difference({"plan": values}, {"plan": other}), difference({"plan": other}, {"plan": values})
    assert {row.key for row in found.parts["plan"]} == {row.key for row in back.parts["plan"]}
    assert {(row.one, row.other) for row in found.parts["plan"]} == {(row.other, row.one) for row in back.parts["plan"]}
    lines = diff_lines("a", "b", found, 80)
    assert all(width_of("".join(text for text, _ in each)) <= 80 + 40 for each in lines)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_printed_command_composes_the_very_configuration(experiment: str) -> None:
    config = compose([f"experiment={experiment}", "train.seed=11", "optim.learning_rate=2.5e-5"])
    words = overrides_of(config, compose([]))
    assert not any(word.startswith("experiment=") for word in words)
    assert content_of(compose(words)) == content_of(config)


def test_odd_values_come_through_the_command(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    plan = read_plan(folder.run_json)
    plan.config.data.chat_template = ODD
    plan.config.data.columns = {"prompt": ODD, "two words": "x"}
    command = command_of(plan, compose([]))
    verb, *words = shlex.split(command.replace("\\\n", ""))[1:]
    assert verb == "run"
    again = compose(words)
    assert again.data.chat_template == ODD
    assert again.data.columns == plan.config.data.columns
    assert content_of(again) == content_of(plan.config)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1e-5, "1e-05"),
        ("a/b.json", "a/b.json"),
        ("null", "'null'"),
        ("12", "'12'"),
        ("", "''"),
        ([1, "a b"], "[1,'a b']"),
        ({"a": None}, "{a:null}"),
    ],
)
def test_values_in_the_grammar(value: Any, text: str) -> None:
    assert written(value) == text


def test_data_that_changed_or_is_gone_is_refused_by_its_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = filled(tmp_path, "one")
    assert changed_data(folder) == []
    (tmp_path / "one.jsonl").write_text('{"text": "other"}\n')
    assert cli.main(["reproduce", "one", "--run-root", str(tmp_path)]) == 2
    assert "one.jsonl" in (said := capsys.readouterr().err)
    assert "has changed since" in said
    (tmp_path / "one.jsonl").unlink()
    assert cli.main(["reproduce", "one", "--run-root", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("one-again*")] == []


def test_other_versions_and_another_plan_are_said(tmp_path: Path) -> None:
    from launcher.compare.facets import facets_of

    folder = filled(tmp_path, "one")
    plan, before = read_plan(folder.run_json), facets_of(folder)
    record = json.loads(folder.env_json.read_text())
    assert remarks(before, plan, record, True) == []
    newer = record | {"versions": {**record["versions"], "torch": "9.9"}}
    assert remarks(before, plan, newer, False) == [
        f"versions: torch was {record['versions'].get('torch')}, is 9.9",
        "code: another version of Muster wrote the run; this one's code is used",
    ]


def test_a_free_name_is_found(tmp_path: Path) -> None:
    plan = read_plan(make_run(tmp_path).run_json)
    assert free_name(plan) == "demo-again"
    (tmp_path / f"demo-again-{plan.run_id[-8:]}").mkdir()
    assert free_name(plan) == "demo-again-2"
