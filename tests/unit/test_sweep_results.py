"""What came of a sweep: order of its points, importance of parameters, pictures, table, page."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from conf.outcome import Outcome, State, write_outcome
from conf.schema import Direction, RunConfig, SweepConfig
from launcher.figures.axis import axis
from launcher.problems import ConfigurationError, NotFoundError
from launcher.sweep.curves import curves_picture
from launcher.sweep.importance import importances
from launcher.sweep.picture import comparison
from launcher.sweep.ranking import Criterion, criterion_of, rank
from launcher.sweep.record import Sweep, SweptPoint, encode_sweep
from launcher.sweep.results import Result, as_value
from launcher.verbs import report as report_verb
from launcher.verbs import status as status_verb
from launcher.verbs.sweep_results import best, report
from tests.dist.runs import write_plan

ODD = "a <b> & \"c\", 'd' $(e)"
LOSS = Criterion("eval/loss", greater=False)


def result(loss: float | None, state: State = State.done, **values: object) -> Result:
    overrides = [f"{key}={value}" for key, value in values.items()]
    name = "-".join(str(value) for value in values.values())
    metrics = {} if loss is None else {"eval/loss": loss, "train/loss": loss + 1}
    point = SweptPoint(overrides, name, f"/runs/{name}", name)
    return Result(point, state.value, 10, {key: as_value(value) for key, value in values.items()}, metrics)


POINTS = [
    result(2.0, lr=1e-5, words=ODD),
    result(1.0, lr=1e-4, words=ODD),
    result(math.nan, lr=1e-3, words="plain"),
    result(0.5, State.failed, lr=1e-2, words="plain"),
    result(None, State.failed, lr=1e-1, words="plain"),
    result(3.0, lr=1e-6, words="plain"),
]


def test_points_that_are_done_come_first_in_the_order_of_the_metric() -> None:
    less = [(one.place, one.value) for one in rank(POINTS, LOSS)]
    assert less[:3] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert [place for place, _ in less[3:]] == [None] * 3
    more = rank(POINTS, Criterion("eval/loss", greater=True))
    assert [one.value for one in more][:3] == [3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("sweep", "metric", "direction", "expected"),
    [
        (SweepConfig(), None, None, LOSS),
        (SweepConfig(metric="train/loss"), None, None, Criterion("train/loss", False)),
        (SweepConfig(metric="loss", direction=Direction.maximize), None, None, Criterion("eval/loss", True)),
        (SweepConfig(direction=Direction.maximize), "train/loss", None, Criterion("train/loss", False)),
        (SweepConfig(), "accuracy", None, Criterion("eval/accuracy", True)),
        (SweepConfig(), "accuracy", Direction.minimize, Criterion("eval/accuracy", False)),
    ],
    ids=["default", "the sweep's", "its direction", "another metric", "short name", "asked for"],
)
def test_the_criterion(
    sweep: SweepConfig, metric: str | None, direction: Direction | None, expected: Criterion
) -> None:
    found = [*POINTS, Result(POINTS[0].point, "done", metrics={"eval/accuracy": 0.5})]
    assert criterion_of(sweep, found, metric, direction) == expected


def test_a_metric_that_nobody_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="eval/los is a metric of no point; nearest: eval/loss"):
        criterion_of(SweepConfig(), POINTS, "eval/los")
    with pytest.raises(NotFoundError):
        criterion_of(SweepConfig(), [result(None, lr=1)])


def test_importance_finds_what_decides() -> None:
    values = {"decides": [float(place // 4) for place in range(12)], "idle": [float(place % 4) for place in range(12)]}
    shares = importances(values, [place // 4 + 0.01 * (place % 4 - 1) ** 2 for place in range(12)])
    assert list(shares) == ["decides", "idle"]
    assert shares["decides"] is not None
    assert shares["decides"] > 0.8
    assert shares["idle"] is not None
    assert shares["idle"] < 0.1


def test_importance_of_many_numbers_and_of_too_few_points() -> None:
    many = [0.37 * place % 1 for place in range(64)]
    noise = [0.71 * place % 1 for place in range(64)]
    shares = importances({"noise": noise, "decides": many}, [(value - 0.2) ** 2 for value in many])
    assert shares["decides"] is not None
    assert shares["decides"] > 0.7
    assert shares["noise"] is not None
    assert shares["noise"] < 0.2
    assert importances({"lr": [1.0, 2.0]}, [1.0, 2.0]) == {"lr": None}
    assert importances({"lr": [1.0, 1.0]}, [1.0, 2.0]) == {"lr": None}
    assert importances({"lr": [1.0, 1.0, 2.0]}, [5.0, 5.0, 5.0]) == {"lr": 0.0}


def test_an_axis_takes_powers_numbers_and_words() -> None:
    powers = axis("lr", [1e-6, 1e-4, 1e-2])
    assert (powers.logarithmic, powers.place(1e-4)) == (True, pytest.approx(0.5))
    assert [label for _, label in powers.ticks()] == ["1e-06", "1e-05", "0.0001", "0.001", "0.01"]
    assert axis("n", [1.0, 3.0]).place(2.0) == 0.5
    assert axis("w", ["zero2", 3.0]).words == ("zero2", "3")
    assert axis("n", [1.0, math.inf]).place(math.inf) is None


@pytest.mark.parametrize("points", [POINTS, POINTS[2:3], [result(1.0, lr=1e-3)], [result(2.0), result(1.0)]])
def test_pictures_are_xml_with_a_mark_for_each_point_that_has_a_place(points: list[Result]) -> None:
    ranked = rank(points, LOSS)
    placed = sum(one.place is not None for one in ranked)
    picture = ElementTree.fromstring(comparison(ranked, LOSS).as_file)
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}title"))) == placed
    curves = {one.point.run_id: [(step, 1 / step) for step in range(1, 1000)] for one in points}
    drawn = ElementTree.fromstring(curves_picture(curves, ranked, "eval/loss"))
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}title"))) == len(points)


def write_sweep(root: Path, losses: list[float]) -> Path:
    points = []
    for number, loss in enumerate(losses):
        config = RunConfig()
        config.name, config.optim.learning_rate = ODD, 10.0**-number
        run, _ = write_plan(root / f"run{number}", config)
        lines = [{"step": step, "attempt": 0, "eval/loss": 9 - step, "train/loss": 9.5 - step} for step in (1, 2)]
        run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
        metrics = {"eval/loss": loss}
        write_outcome(run.outcome, Outcome(State.done, "all steps are done", 2, 0, 1.0, metrics=metrics))
        overrides = [f"optim.learning_rate={10.0**-number}", f'name="{ODD}"']
        points.append(SweptPoint(overrides, run.path.name, str(run.path), str(number)))
    folder = root / "sweeps" / "odd-01234567"
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_bytes(encode_sweep(Sweep("odd-01234567", "submit", [f"name={ODD}"], "/", points)))
    return folder


def test_best_agrees_with_the_files_and_the_report_holds_every_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_sweep(tmp_path, [3.0, 1.0, 2.0])
    assert best(["odd", "--run-root", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(point["run"], point["value"]) for point in told["points"]] == [("run1", 1.0), ("run2", 2.0), ("run0", 3.0)]
    assert report_verb.run(["odd", "--run-root", str(tmp_path)]) == 0
    assert str(folder / "report.html") in capsys.readouterr().out
    (folder / "report.html").unlink()
    assert status_verb.run(["odd", "--run-root", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "best so far: eval/loss 1 at optim.learning_rate=0.1" in said
    assert said.count("done") >= 4
    assert best(["odd", "--run-root", str(tmp_path)]) == 0
    assert "best     run1: optim.learning_rate=0.1" in capsys.readouterr().out
    ElementTree.parse(folder / "best.svg")
    assert report(["odd", "--run-root", str(tmp_path), "--metric", "train/loss"]) == 0
    rows = list(csv.DictReader(io.StringIO((folder / "points.csv").read_text())))
    assert [(row["run"], float(row["eval/loss"]), float(row["train/loss"])) for row in rows] == [
        ("run0", 3.0, 7.5),
        ("run1", 1.0, 7.5),
        ("run2", 2.0, 7.5),
    ]
    assert {row["name"] for row in rows} == {f'"{ODD}"'}
    page = (folder / "report.html").read_text()
    assert "<b>" not in page.replace("<b>optim", "")
    assert page.count("<svg") == 2
    assert all(f">{name}</td>" in page for name in ("run0", "run1", "run2"))
