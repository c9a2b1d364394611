"""`muster plan`: everything a run would be, before anything is written or queued."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from conf.schema import RunConfig
    from launcher.choice.table import Cell
    from launcher.facts.gather import Gatherer
    from launcher.sweep.grid import Grid, Ready
    from launcher.sweep.search import Search

HELP = "what a run would be: memory, time, files; writes nothing"
EXAMPLES = """
muster plan model=hf model.model_name_or_path=./Qwen2.5-0.5B data.train_file=train.jsonl
muster plan experiment=gsm8k cluster=devcluster cluster.nodes=2
muster plan experiment=demo cluster=slurm cluster.nodes=4 --show job.sbatch
muster plan experiment=demo --files ./what-would-be-sent
muster plan model=llama3.1-8b data=demo cluster=slurm cluster.gres=gpu:h100:8 --max-nodes 8
muster plan model=llama3.1-8b data=demo cluster=slurm cluster.gres=gpu:h100:8 --table
"""


def run(argv: list[str]) -> int:
    """Print the plan of a configuration."""
    from launcher.compose.overrides import split
    from launcher.flags import NO_CACHE, Parser

    parser = Parser("plan", HELP, EXAMPLES, overrides=True)
    parser.add_argument(
        "--json", action="store_true", help="the plan as run.json will hold it, with the files' sizes; with -m a list"
    )
    parser.add_argument("--show", metavar="FILE", help="print one file of the run folder, byte for byte")
    parser.add_argument("--files", metavar="FOLDER", help="write all files that would be sent into a new folder")
    parser.add_argument(
        "--table", action="store_true", help="memory and time by ZeRO stage, micro batch and length; --json has it too"
    )
    parser.add_argument(
        "--max-nodes", type=int, metavar="N", help="choose the cheapest number of nodes up to N (cluster.nodes=auto)"
    )
    parser.add_argument("--when", action="store_true", help="ask Slurm when it would start the job")
    parser.add_argument("--no-cache", action="store_true", help=NO_CACHE)
    flags, words = split(parser, argv)
    if flags.max_nodes is not None:
        words = [*words, *_up_to(flags.max_nodes, words)]

    from launcher.facts.gather import Gatherer  # Hydra and facts, which --help needs not
    from launcher.send.sweep import each_run

    _require_one_page(flags, words)
    look = Gatherer(fetch=False, remember=not flags.no_cache)
    one_by_one = flags.show or flags.files or (flags.table and not flags.json)
    return each_run(
        words,
        lambda config, words: _prepare(config, words, look),
        lambda ready: _plan(ready, flags),
        None if one_by_one else lambda grid, ready: _plan_sweep(grid, ready, flags),
        lambda search, ready: _plan_search(search, ready, flags),
        headings=not flags.show,
    )


def _asked(flags: argparse.Namespace) -> list[str]:
    """The flags given that show something else than the page."""
    return [f"--{name}" for name in ("json", "show", "files", "table", "when") if getattr(flags, name)]


def _require_one_page(flags: argparse.Namespace, words: list[str]) -> None:
    """Refuse flags that ask for several things at once."""
    from launcher.compose.hydra_main import sort_words
    from launcher.problems import ConfigurationError, Problem

    asked, problems = _asked(flags), []
    if len(asked) > 1 and asked != ["--json", "--table"]:
        problems.append(Problem(" ".join(asked), "", "do not go together", f"{asked[0]} alone, or --json --table"))
    if flags.when and sort_words(words).sweep:
        problems.append(Problem("--when", "", "asks when one job would start, and -m gives several"))
    if problems:
        raise ConfigurationError(problems)


def _up_to(nodes: int, words: list[str]) -> list[str]:
    """The overrides that `--max-nodes` stands for."""
    given = any(word.lstrip("+").startswith("cluster.nodes=") for word in words)
    return [f"cluster.max_nodes={nodes}", *([] if given else ["cluster.nodes=auto"])]


def _prepare(config: RunConfig, words: list[str], look: Gatherer) -> Ready:
    from launcher.send.proposal import propose_config
    from launcher.sweep.grid import Ready

    return Ready(propose_config(config, look=look), words)


def _plan_sweep(grid: Grid, ready: list[Ready], flags: argparse.Namespace) -> int:
    """The first point's page, a line a point, and the arrays that would be sent; with --json a list of all points."""
    if flags.json:
        return _print_json([_as_json(one, flags) for one in ready])
    from launcher.show.plan_page import print_plan
    from launcher.show.show import print_table
    from launcher.sweep.pages import PLANNED, planned_lines, planned_row

    print_plan(ready[0].proposal)
    print(f"\nThat was the first of {len(ready)} points: {ready[0].point}\n")
    print_table(PLANNED, [planned_row(one) for one in ready])
    print("\n" + "\n".join(planned_lines(grid.id, ready)))
    return 0


def _plan_search(search: Search, ready: list[Ready], flags: argparse.Namespace) -> int:
    from launcher.problems import ConfigurationError, Problem
    from launcher.verbs.sweep_search import plan_search

    rule = "does not go with sweep=optuna, which chooses its points as it runs: there is no list of them"
    if problems := [Problem(flag, "", rule) for flag in _asked(flags)]:
        raise ConfigurationError(problems)
    return plan_search(search, ready)


def _plan(ready: Ready, flags: argparse.Namespace) -> int:
    proposal = ready.proposal
    if flags.show:
        sys.stdout.buffer.write(_artifact(proposal.artifacts, flags.show))
        return 0
    if flags.files:
        folder = f"{flags.files}/{proposal.plan.run_id}" if ready.point else flags.files
        _write_files(folder, proposal.artifacts)
        print(f"{len(proposal.artifacts)} files in {folder}")
        return 0
    if flags.json:
        return _print_json(_as_json(ready, flags))
    if flags.table:
        return _table(ready)
    from launcher.show.plan_page import print_plan

    print_plan(proposal)
    if flags.when:
        print(f"\nStart\n  {_when(ready)}")
    return 0


def _as_json(ready: Ready, flags: argparse.Namespace) -> Any:
    """The plan with the sizes of its files, or the table as a list of its cells."""
    from dataclasses import asdict

    from conf.record import encode_plan

    if flags.table:
        return [asdict(cell) for cell in _cells(ready)]
    plan, artifacts = ready.proposal.plan, ready.proposal.artifacts
    sizes = {path: len(content) for path, content in sorted(artifacts.items())}
    return {"plan": json.loads(encode_plan(plan)), "files": sizes}


def _print_json(value: Any) -> int:
    print(json.dumps(value, indent=2))
    return 0


def _table(ready: Ready) -> int:
    from launcher.show.table_page import table_lines

    cells = _cells(ready)
    print("\n".join(table_lines(cells)) if cells else "nothing is known of what this model needs")
    return 0


def _cells(ready: Ready) -> list[Cell]:
    from launcher.choice.table import table_of

    plan, facts = ready.proposal.plan, ready.proposal.facts
    return table_of(plan.config, facts) if plan.script is None else []


def _when(ready: Ready) -> str:
    """When Slurm would start the job, by its own estimate, or why not."""
    from conf.schema import ClusterKind
    from launcher.problems import SchedulerError
    from launcher.send.submit import ask_first

    plan = ready.proposal.plan
    if plan.config.cluster.kind is ClusterKind.local:
        return "at once: it runs on this machine"
    try:
        said = ask_first(plan, ready.proposal.artifacts)
    except SchedulerError as error:
        return f"Slurm would not take it: {error}"
    return said.removeprefix(", ") or "Slurm does not say when it would start"


def _artifact(artifacts: Any, path: str) -> bytes:
    from launcher.problems import NotFoundError, nearest

    if path not in artifacts:
        hint = nearest(path, artifacts) or ", ".join(sorted(artifacts))
        raise NotFoundError(f"the run folder has no file {path}; nearest: {hint}")
    content: bytes = artifacts[path]
    return content


def _write_files(folder: str, artifacts: Any) -> None:
    """Write the files beside nothing else: the folder has to be new or empty.

    Raises:
        ConfigurationError: it is neither, or cannot be written in.
    """
    from pathlib import Path

    from conf.files import write_atomically
    from launcher.problems import ConfigurationError, Problem

    root = Path(folder)
    try:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise ConfigurationError([Problem("--files", folder, "has to be a new or empty folder")])
        for path, content in sorted(artifacts.items()):
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, content)
    except OSError as error:
        raise ConfigurationError([Problem("--files", folder, f"cannot be written in: {error.strerror}")]) from error
