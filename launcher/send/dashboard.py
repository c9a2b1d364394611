"""What a dashboard on W&B is to be about, and the process that makes it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from conf.board import Board
from conf.layout import RunFolder
from conf.record import read_plan
from launcher.problems import MusterError, NotFoundError
from launcher.runs.evaluations import read_evaluations
from launcher.runs.read import read_lines, read_tail
from launcher.runs.rundir import list_runs, require_safe
from launcher.send.child import rank_argv
from launcher.sweep import folder as sweeps
from launcher.sweep.members import find_runs, find_sweep
from launcher.sweep.ranking import WITHOUT_EVALUATION, criterion_of
from launcher.sweep.results import own_values, read_results

FILE = "dashboard.json"
FIRST_LINES = 100
"""Lines at the start of a file: some metrics are there once, after the first step."""

CHOICES = {"parallel": "parallel.zero_stage", "method": "method.name", "optim": "", "schedule": "", "model": ""}
"""The key that tells the choices of a group apart, where one does: W&B draws keys."""


def show_dashboard(words: Sequence[str], run_root: str, dry_run: bool) -> int:
    """Save, or print as JSON, the dashboard of runs, of a sweep, or without words of the project; the exit status.

    Raises:
        NotFoundError: there is no such run or sweep, or none at all.
        MusterError: a run's code is not safe to use, or its Python cannot be started.
    """
    sweep = find_sweep(words[0], run_root) if len(words) == 1 else None
    runs = find_runs(words, run_root) if words else list_runs(run_root)
    if not runs:
        raise NotFoundError(f"no run in {run_root} to make a dashboard of")
    board = board_of_sweep(sweep, runs) if sweep is not None else board_of_runs(runs, named=bool(words))
    require_safe(runs[-1])
    argv = [*rank_argv(runs[-1], "dashboard"), *(["--dry-run"] if dry_run else [])]
    try:
        return subprocess.run(argv, input=msgspec.json.encode(board), check=False).returncode
    except OSError as error:
        raise MusterError(f"cannot start {argv[0]}: {error.strerror}") from error


def board_of_runs(runs: Sequence[RunFolder], named: bool) -> Board:
    """The board of some runs; of all in their project where none was `named`."""
    plan = read_plan(runs[-1].run_json)
    tracking = plan.config.tracking
    metrics = logged(runs)
    if not named:
        return Board(tracking.project, tracking.project, tracking.entity, metrics=metrics)
    plans = [read_plan(run.run_json) for run in runs]
    kept = str(runs[0].wandb / FILE) if len(runs) == 1 and runs[0].wandb.is_dir() else None
    title, ids = _title([plan.run_id for plan in plans]), [plan.wandb_id for plan in plans]
    return Board(title, tracking.project, tracking.entity, runs=ids, metrics=metrics, kept=kept)


def board_of_sweep(folder: sweeps.SweepFolder, runs: Sequence[RunFolder]) -> Board:
    """The board of a sweep: its group, what it varies, and what it is judged by."""
    sweep = sweeps.read(folder)
    plan = read_plan(runs[0].run_json)
    tracking = plan.config.tracking
    try:
        criterion = criterion_of(sweep.sweep, read_results(sweep.points, None))
        metric, greater = criterion.metric, criterion.greater
    except NotFoundError:
        metric, greater = WITHOUT_EVALUATION, False
    keys = dict.fromkeys(key for point in sweep.points for key in own_values(point))
    return Board(
        sweep.id,
        tracking.project,
        tracking.entity,
        group=tracking.group or sweep.id,
        metrics=logged(runs),
        parameters=[key for key in (CHOICES.get(key, key) for key in keys) if key],
        metric=metric,
        greater=greater,
        kept=str(folder.path / FILE),
    )


def logged(runs: Sequence[RunFolder]) -> list[str]:
    """The names in the first and last lines of the metrics of runs and of their nodes, those of their evaluations, and
    what is added to each line on W&B.
    """
    files = [file for run in runs for file in (run.metrics, run.system)]
    lines = [line for file in files for line in (*islice(read_lines(file), FIRST_LINES), *read_tail(file))]
    evaluated = {name for run in runs for name in _evaluated(run)}
    own = ("run/attempt", "run/goodput", "run/lost_steps", "run/queue_wait_s")
    return sorted({name for line in lines for name in line if "/" in name} | evaluated | set(own))


def _evaluated(run: RunFolder) -> Iterator[str]:
    """The metrics of a run's evaluations as metrics.jsonl has them: `eval/loss`, `test/accuracy`."""
    for split, steps in read_evaluations(run).splits.items():
        prefix = "eval" if split == "validation" else split
        yield from (f"{prefix}/{name}" for values in steps.values() for name in values)


def _title(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]} and {len(ids) - 1} more"
