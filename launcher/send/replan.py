"""Going on with changed keys: the plan of a run again, in the same folder, under the same id.

Free keys (the cluster, tracking) may change between attempts, `train.max_steps` may grow; the rest is another run
and needs force. The code in the folder stays what was submitted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from conf.files import write_atomically
from conf.layout import RunFolder
from conf.record import Plan
from conf.schema import RunConfig, TrainConfig
from launcher.plan.content import content_of, difference
from launcher.problems import ConfigurationError, Problem
from launcher.runs.rundir import make_mounted
from launcher.runs.saved import require_loadable
from launcher.send.proposal import Proposal, without_free_keys

CODE = "code/"
STEPS = "train.max_steps"
SCRIPTS = ("job.sh", "job.sbatch")
OF_THE_FOLDER = ("name", "run_root")
"""Keys that make up the run's id and place, which stay."""


def amend(config: RunConfig, words: list[str], composed: RunConfig) -> RunConfig:
    """`config` with the keys and groups that `words` name, their values taken from `composed`."""
    amended: dict[str, Any] = msgspec.to_builtins(config)
    given: dict[str, Any] = msgspec.to_builtins(composed)
    # Groups first: `cluster.nodes=4 cluster=slurm` means the same in any order.
    for word in sorted(words, key=lambda word: "." in word.partition("=")[0]):
        path = word.partition("=")[0].lstrip("+~").split(".")
        if word.startswith("~"):
            path = path[:-1] or path
        source, target = given, amended
        for name in path[:-1]:
            source, target = source[name], target.setdefault(name, {})
        target[path[-1]] = source[path[-1]]
    return msgspec.convert(amended, RunConfig)


def refuse_changes(before: RunConfig, after: RunConfig, force: bool) -> list[str]:
    """What changes in the content of the run, as lines; refused where it is more than a growing `train.max_steps`.

    Raises:
        ConfigurationError: with the difference, unless `force`; with another name or run root in any case.
    """
    old, new = content_of(before), content_of(after)
    problems = [
        Problem(key, _shown(given), "is another run's; this one keeps its id and its folder", str(had))
        for key in OF_THE_FOLDER
        if (given := getattr(after, key)) != (had := getattr(before, key))
    ]
    changed = [
        _change_problem(key, old.get(key), new.get(key))
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key) and not _grows(key, old.get(key), new.get(key))
    ]
    if changed and not force:
        rule = "goes on with changed keys all the same; another name makes another run"
        problems += [*changed, Problem("--force", "", rule)]
    if problems:
        raise ConfigurationError(problems)
    return difference(old, new)


def _change_problem(key: str, old: object, new: object) -> Problem:
    if key == STEPS and isinstance(old, int) and isinstance(new, int):
        return Problem(key, _shown(new), f"was {old} and may only grow between attempts", str(old))
    return Problem(key, _shown(new), f"was {_shown(old)} and may not change between attempts")


def _grows(key: str, old: object, new: object) -> bool:
    return key == STEPS and isinstance(old, int) and isinstance(new, int) and new > old


def _shown(value: object) -> str:
    return "null" if value is None else str(value)


def replan(plan: Plan, words: list[str], config_dir: str | None, force: bool) -> tuple[Proposal, list[str]]:
    """The plan with the changed keys, every file of its folder, and what changed in its content.

    Raises:
        ConfigurationError: keys that may not change, all problems of the changed configuration, or a newest checkpoint
            that it cannot load.
    """
    from launcher.check.batch import world_size_of
    from launcher.check.check import check
    from launcher.compose.compose import compose
    from launcher.facts.gather import gather
    from launcher.plan.plan import make_plan
    from launcher.render.artifacts import render

    amended = amend(plan.config, words, compose(words, config_dir))
    gathered = gather(amended)
    config, choice, unchosen = without_free_keys(amended, gathered)
    lines = refuse_changes(plan.config, dataclasses.replace(config, run_root=gathered.run_root), force)
    # The run's own folder is no other run of the same name.
    others = tuple(run for run in gathered.existing_runs if run.run_id != plan.run_id)
    facts = dataclasses.replace(gathered, existing_runs=others)
    laid_out = with_known_layout(config, plan, world_size_of(config, facts))
    problems = [*unchosen, *check(laid_out, facts)]
    if problems:
        raise ConfigurationError([*problems, *_known_ranks(plan, world_size_of(config, facts), problems)])
    made = make_plan(laid_out, facts, choice or plan.choice)
    kept = dataclasses.replace(made.config, train=_with_batch_of(made.config.train, config.train))
    again = dataclasses.replace(made, config=kept, run_id=plan.run_id, run_dir=plan.run_dir)
    require_loadable(RunFolder(Path(plan.run_dir)), again)
    return Proposal(again, facts, render(again, facts)), lines


def with_known_layout(config: RunConfig, plan: Plan, ranks: int) -> RunConfig:
    """`config` with the micro batch that `plan` has in its table for so many ranks.

    Nothing changes for the ranks it was planned for, ranks that are not in the table, or a batch that was changed.
    """
    before, after = plan.config.train, config.train
    changed = after.global_batch_size != before.global_batch_size or after != _with_batch_of(after, before)
    if changed or ranks == plan.topology.world_size or ranks not in plan.layouts:
        return config
    micro = plan.layouts[ranks].batch.micro_batch_size
    train = dataclasses.replace(after, per_device_train_batch_size=micro, gradient_accumulation_steps=None)
    return dataclasses.replace(config, train=train)


def _with_batch_of(train: TrainConfig, other: TrainConfig) -> TrainConfig:
    return dataclasses.replace(
        train,
        per_device_train_batch_size=other.per_device_train_batch_size,
        gradient_accumulation_steps=other.gradient_accumulation_steps,
    )


def _known_ranks(plan: Plan, ranks: int, problems: list[Problem]) -> list[Problem]:
    """Where the ranks are what does not fit: those for which the run has a layout."""
    if ranks in plan.layouts or all(problem.key != "train.global_batch_size" for problem in problems):
        return []
    known = ", ".join(str(size) for size in sorted(plan.layouts))
    return [Problem("cluster.nodes", "", f"makes {ranks} ranks, and the run has no layout for them", f"{known} ranks")]


def write_again(folder: RunFolder, plan: Plan, artifacts: Mapping[str, bytes]) -> None:
    """Write the changed files into the folder, each atomically, `run.json` last; the code stays."""
    make_mounted(plan.config.cluster)
    mode = folder.path.stat().st_mode & 0o666
    for script in SCRIPTS:
        if script not in artifacts:
            (folder.path / script).unlink(missing_ok=True)
    for path in sorted(artifacts, key=lambda path: path == "run.json"):
        target = folder.path / path
        if path.startswith(CODE) or _holds(target, artifacts[path]):
            continue
        target.parent.mkdir(exist_ok=True)
        write_atomically(target, artifacts[path], mode)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False
