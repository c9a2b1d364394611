"""Sweeps whose points Optuna chooses: what it chooses from, and a controller whose trials' runs are played here."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.outcome import Outcome, State, write_outcome
from conf.record import read_plan
from conf.schema import Access, ClusterKind, Pruner, Sampler, SweepConfig
from launcher.compose.declared import declared, require_no_sweep
from launcher.problems import ConfigurationError, MusterError
from launcher.runs.submissions import TRAIN, write_line
from launcher.send import ask
from launcher.sweep.control import Controller, alone, ask_to_leave, is_searched
from launcher.sweep.controller_job import controller_script
from launcher.sweep.folder import SweepFolder, create, folder_of, read
from launcher.sweep.optimize import check_search
from launcher.sweep.record import Sweep
from launcher.sweep.search import Search, make_search
from launcher.sweep.space import Choices, Domain, Numbers, combinations, corners, in_words, read_space, written
from launcher.sweep.starter import REQUEUE_S, SlurmStarter, Starter
from launcher.sweep.study import Study, make_pruner, make_sampler
from launcher.sweep.summary import summarize
from tests.unit.runs import begin, end, make_run
from tests.unit.slurm_site import make_site, put_in_queue

pytest.importorskip("optuna")

DOMAINS: dict[str, tuple[str, Domain]] = {
    "values": ("a,b,a", Choices(("a", "b"))),
    "choice": ("choice('a b',1e-5)", Choices(("a\\ b", "1e-05"))),
    "interval": ("interval(0,0.1)", Numbers(0.0, 0.1)),
    "log": ("tag(log,interval(1e-5,1e-3))", Numbers(1e-5, 1e-3, logarithmic=True)),
    "whole": ("tag(int,interval(1,10))", Numbers(1.0, 10.0, whole=True)),
    "cast": ("int(interval(1,10))", Numbers(1.0, 10.0, whole=True)),
    "whole log": ("tag(int,log,interval(1,100))", Numbers(1.0, 100.0, whole=True, logarithmic=True)),
    "range": ("range(1,9,2)", Numbers(1.0, 7.0, whole=True, step=2.0)),
    "steps": ("range(0.0,1.0,0.25)", Numbers(0.0, 0.75, step=0.25)),
}


@pytest.mark.parametrize(("text", "domain"), DOMAINS.values(), ids=DOMAINS)
def test_hydra_s_grammar_says_what_is_chosen_from(text: str, domain: Domain) -> None:
    assert read_space(["experiment=demo", f"train.seed={text}"]) == (["experiment=demo"], {"train.seed": domain})
    assert in_words(domain)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("tag(log,interval(0,1))", "has to start above 0"),
        ("interval(2,1)", "has its larger end first"),
        ("tag(ln,interval(1,2))", "has the tag ln; there are log, int, float"),
        ("tag(int,interval(1,2.5))", "its ends have to be"),
        ("tag(log,choice(1,2))", "go with range"),
        ("5", "has nothing to choose"),
    ],
)
def test_a_domain_that_cannot_be_is_refused(text: str, rule: str) -> None:
    with pytest.raises(ConfigurationError, match=rule.replace("(", r"\(")):
        read_space([f"train.seed={text}"])


def test_ends_combinations_and_how_values_are_written() -> None:
    space = {"a": Choices(("x", "y")), "b": Numbers(1, 5, whole=True, step=2), "c": Numbers(1e-5, 1e-3)}
    assert list(corners(space)) == [
        {"a": "x", "b": "1", "c": "1e-05"},
        {"a": "y", "b": "1", "c": "1e-05"},
        {"a": "x", "b": "5", "c": "1e-05"},
        {"a": "x", "b": "1", "c": "0.001"},
    ]
    assert combinations(space) is None
    del space["c"]
    assert [tuple(one.values()) for one in combinations(space) or []] == [(a, b) for a in "xy" for b in "135"]
    assert written(Numbers(0, 1), 0.123456789) == "0.123457"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MUSTER_SITE", raising=False)
    return tmp_path


WORDS = [
    "experiment=demo", "tracking=none", "sweep=optuna", "optim.learning_rate=tag(log,interval(1e-5,1e-1))",
    "parallel=zero2,zero3", "sweep.pruner_options={n_startup_trials: 3}", "sweep.parallel_trials=3",
]  # fmt: skip


def search_of(*words: str) -> Search:
    return make_search(declared([*WORDS, *words]))


def test_a_search_is_the_same_however_many_trials_it_is_to_have(here: Path) -> None:
    assert search_of("sweep.trials=4").id == search_of("sweep.trials=40", "sweep.parallel_trials=1").id
    assert search_of().id != search_of("optim.weight_decay=0.1").id
    assert search_of().id != search_of("sweep.metric=train/loss").id
    point = search_of().point({"optim.learning_rate": "0.001", "parallel": "zero2"})
    assert (point.config.optim.learning_rate, point.config.parallel.zero_stage) == (0.001, 2)
    assert point.config.name == "demo-learning_rate-0.001-parallel-zero2"


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["sweep.sampler=grid"], "an interval has no end of them"),
        (["sweep.metric=eval/acuracy"], "is no metric of this task's evaluations"),
        (["sweep.trials=0"], "has to be at least 1"),
        (["data.validation_file=null", "data.validation_size=0"], "needs validation data"),
        (["sweep.pruner_options={startup: 3}"], "does not go with MedianPruner"),
    ],
    ids=["grid", "metric", "trials", "no evaluation", "options"],
)
def test_a_search_that_cannot_be_is_refused(here: Path, words: list[str], rule: str) -> None:
    with pytest.raises(ConfigurationError, match=rule):
        check_search(search_of(*words), lambda config, _: pytest.fail("planned"))


def test_a_search_without_the_flag_is_refused(here: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs the flag -m"):
        require_no_sweep(search_of().point({"optim.learning_rate": "1e-3", "parallel": "zero2"}).config)


def test_sampler_and_pruner_are_optuna_s() -> None:
    sweep = SweepConfig(sampler=Sampler.tpe, pruner=Pruner.asha, pruner_options={"reduction_factor": 2})
    assert type(make_sampler(sweep, 1)).__name__ == "TPESampler"
    assert type(make_pruner(sweep)).__name__ == "SuccessiveHalvingPruner"


class PlayedRuns(Starter):
    """Runs that write what a run of four evaluations writes: the further the rate from 1e-3, the worse; some fail."""

    STEPS = 4

    def __init__(self, died_after: int = 1_000_000) -> None:
        super().__init__()
        self.started: list[RunFolder] = []
        self.steps: dict[RunFolder, int] = {}
        self.left = died_after

    def start(self, folder: RunFolder) -> None:
        self.started.append(folder)
        self.steps[folder] = 0

    def is_live(self, folder: RunFolder) -> bool:
        return folder in self.steps

    def stop(self, folder: RunFolder) -> None:
        self._end(folder, State.stopped)

    def wait(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        for folder, step in list(self.steps.items()):
            self._play(folder, step + 1)

    def _play(self, folder: RunFolder, step: int) -> None:
        rate = read_plan(folder.run_json).config.optim.learning_rate
        loss = max(rate / 1e-3, 1e-3 / rate) + 1 / step
        with folder.metrics.open("a") as file:
            file.write(json.dumps({"step": step, "attempt": 0, "eval/loss": loss}) + "\n")
        self.steps[folder] = step
        if rate > 2e-2:
            self._end(folder, State.failed)
        elif step == self.STEPS:
            self._end(folder, State.done, {"eval/loss": loss})

    def _end(self, folder: RunFolder, state: State, metrics: dict[str, float] | None = None) -> None:
        step = self.steps.pop(folder)
        write_outcome(folder.outcome, Outcome(state, "played", step, 0, 1.0, metrics=metrics or {}))


def folder_for(search: Search) -> SweepFolder:
    folder = folder_of("runs", search.id)
    create(folder, Sweep(search.id, "run", search.words, str(Path.cwd()), [], search.sweep), Access.private)
    return folder


def controller(folder: SweepFolder, search: Search, runs: PlayedRuns, said: list[str]) -> Controller:
    study = Study(folder, search.sweep, search.space, search.criterion.greater)
    return Controller(folder, search, study, runs, said.append)


def test_trials_are_runs_that_are_told_pruned_failed_and_ranked(here: Path) -> None:
    search, said, runs = search_of("sweep.trials=16"), [], PlayedRuns()
    folder = folder_for(search)
    one = controller(folder, search, runs, said)
    assert one.run()
    states = one.study.states()
    assert sum(states.values()) == 16
    assert min(states[name] for name in ("complete", "pruned", "fail")) > 0, states
    points = read(folder).points
    assert len({point.run_dir for point in points}) == len(points) == len(runs.started)
    summary = summarize(folder)
    done = {one.result.point.run_dir: one.value for one in summary.ranked if one.place is not None}
    assert len(done) == states["complete"]
    assert summary.ranked[0].value == min(value for value in done.values() if value is not None)
    stopped = Counter(one.result.state for one in summary.ranked)
    assert (stopped["stopped"], stopped["failed"]) == (states["pruned"], states["fail"])
    assert not one.study.running()


def test_another_controller_goes_on_where_one_died(here: Path) -> None:
    search, said = search_of("sweep.trials=6", "sweep.pruner=none"), []
    folder, runs = folder_for(search), PlayedRuns(died_after=3)
    with pytest.raises(KeyboardInterrupt):
        controller(folder, search, runs, said).run()
    first = list(runs.started)
    assert len(first) == 3
    runs.left = 1_000
    again = controller(folder, search, runs, said)
    assert len(again.study.running()) == 3
    assert again.run()
    assert sum(again.study.states().values()) == 6
    assert runs.started[:3] == first
    assert len(set(runs.started)) == len(runs.started) <= 6
    more = search_of("sweep.trials=8", "sweep.pruner=none")
    assert more.id == search.id
    assert controller(folder, more, runs, said).run()
    assert sum(again.study.states().values()) == 8


@pytest.fixture
def site(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MUSTER_SQUEUE_AGE_S", "0")
    return make_site(here, monkeypatch)


def waiting(root: Path, site: Path, age_s: float = 0.0) -> tuple[RunFolder, SlurmStarter]:
    """A run that is watched, reached its time limit, and waits in the queue for its next attempt."""
    run, starter = make_run(root / "runs", kind=ClusterKind.slurm), SlurmStarter()
    write_line(run, "sent", TRAIN, job_id="41")
    put_in_queue(site, "41", "PENDING", run.job_sbatch)
    attempt = begin(run, 0, "slurm:41")
    starter.follow(run)
    attempt.decision.write_text("requeue\n")
    end(run, state=State.time_limit, time=time.time() - age_s)
    return run, starter


@pytest.mark.parametrize("end_it", [ask.stop, ask.cancel], ids=["stop", "cancel"])
def test_a_trial_that_is_ended_while_it_waits_for_its_requeue_has_ended(
    end_it: Callable[[RunFolder], str], here: Path, site: Path
) -> None:
    run, starter = waiting(here, site)
    assert not starter.has_ended(run)
    end_it(run)
    (site / "queue").unlink()
    assert starter.has_ended(run)


@pytest.mark.parametrize(("age_s", "ended"), [(0.0, False), (REQUEUE_S + 10, True)], ids=["just now", "long ago"])
def test_a_requeue_that_never_comes_is_waited_for_a_minute(age_s: float, ended: bool, here: Path, site: Path) -> None:
    run, starter = waiting(here, site, age_s)
    assert not starter.has_ended(run)
    (site / "queue").unlink()
    assert starter.has_ended(run) == ended


def test_a_grid_of_optuna_s_tries_each_combination_once(here: Path) -> None:
    words = [word for word in WORDS if "interval" not in word]
    search = make_search(declared([*words, "optim.learning_rate=1e-4,1e-3,1e-2", "sweep.sampler=grid"]))
    folder, runs = folder_for(search), PlayedRuns()
    assert controller(folder, search, runs, []).run()
    own = {tuple(point.overrides) for point in read(folder).points}
    assert len(own) == len(runs.started) == 6


def test_one_controller_at_a_time(here: Path) -> None:
    search = search_of()
    folder = folder_for(search)
    sweep = read(folder)
    assert is_searched(folder, sweep)
    with alone(folder):
        assert is_searched(folder, sweep)
        with pytest.raises(MusterError, match="another controller works on"), alone(folder):
            pass
    assert not is_searched(folder, sweep)
    assert ask_to_leave(folder) == []


def test_the_controller_s_script_takes_its_own_options_and_leaves_slurm_s_variables(here: Path) -> None:
    search = search_of("sweep.controller={time: '1:00:00', partition: small}")
    folder = folder_for(search)
    plan = type("Planned", (), {"config": search.corners().points[0].config})()
    text = controller_script(folder, plan)
    assert "#SBATCH --time=1:00:00" in text
    assert "#SBATCH --partition=small" in text
    assert "unset" in text
    assert f"sweep control {folder.path}" in text
