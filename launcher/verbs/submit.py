"""`muster submit`: a run on a Slurm cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from conf.schema import RunConfig
    from launcher.facts.gather import Gatherer
    from launcher.sweep.grid import Grid, Ready

HELP = "send a run to Slurm; returns at once"
EXAMPLES = """
muster submit experiment=gsm8k cluster=devcluster cluster.nodes=2
muster submit model=hf model.model_name_or_path=./Llama-3.2-1B data.train_file=train.jsonl cluster=slurm cluster.nodes=4
muster submit experiment=gsm8k cluster=slurm -m optim.learning_rate=1e-5,2e-5     # each point its own job
"""


def run(argv: list[str]) -> int:
    """Plan, ask sbatch whether it would take it, make the run folder, send."""
    from launcher.compose.overrides import split
    from launcher.flags import NO_CACHE, Parser

    parser = Parser("submit", HELP, EXAMPLES, overrides=True)
    parser.add_argument(
        "--json", action="store_true", help="one line of JSON: id, folder, job_id; of a sweep all its points"
    )
    parser.add_argument("--no-cache", action="store_true", help=NO_CACHE)
    flags, words = split(parser, argv)

    from launcher.facts.gather import Gatherer  # Hydra and facts, which --help needs not
    from launcher.send.sweep import each_run
    from launcher.verbs.sweep_search import submit_search

    look = Gatherer(remember=not flags.no_cache)
    return each_run(
        words,
        lambda config, words: _prepare(config, words, look),
        lambda ready: _submit(ready, flags),
        lambda grid, ready: _submit_sweep(grid, ready, flags),
        lambda search, ready: submit_search(search, ready, flags.json),
    )


def _prepare(config: RunConfig, words: list[str], look: Gatherer) -> Ready:
    from conf.schema import ClusterKind
    from launcher.send.proposal import propose_config, require_fit, require_kind
    from launcher.sweep.grid import Ready

    proposal = propose_config(config, look=look)
    require_kind(proposal.plan, ClusterKind.slurm, "run")
    require_fit(proposal)
    return Ready(proposal, words)


def _submit_sweep(grid: Grid, ready: list[Ready], flags: argparse.Namespace) -> int:
    import json

    from launcher.sweep.folder import read
    from launcher.sweep.pages import submitted_json, submitted_lines
    from launcher.sweep.submit import submit

    submitted = submit(grid, ready)
    sweep = read(submitted.folder)
    if flags.json:
        print(json.dumps(submitted_json(sweep, submitted)))
    else:
        print("\n".join(submitted_lines(sweep, submitted)))
    return 0


def _submit(ready: Ready, flags: argparse.Namespace) -> int:
    """One run alone. Refuses what is running or done; asks sbatch first."""
    import json

    from conf.outcome import State
    from launcher.problems import ConfigurationError, Problem
    from launcher.runs import rundir
    from launcher.runs.saved import conversion
    from launcher.send.foreground import find_earlier, once_more
    from launcher.send.submit import ask_first, send_all
    from launcher.show.show import headline

    plan = ready.proposal.plan
    earlier = find_earlier(plan)
    if earlier is not None and earlier.state is State.done:
        again = f"once more from the start: {once_more('submit', ready.words, plan)}"
        rule = f"is done already ({plan.run_id}); {again}"
        raise ConfigurationError([Problem("name", plan.config.name or plan.run_id, rule)])
    note = ask_first(plan, ready.proposal.artifacts)
    folder = rundir.create(plan, ready.proposal.artifacts)
    folder.stop.unlink(missing_ok=True)
    job = send_all(folder, plan)
    if flags.json:
        print(json.dumps({"id": plan.run_id, "folder": str(folder.path), "job_id": job}))
        return 0
    print(headline(plan))
    if said := conversion(folder, plan):
        print(said)
    print(f"job {job}{note}")
    print(f"\nwatch   muster status {plan.run_id}\n        muster logs {plan.run_id} -f")
    print(f"end     muster stop {plan.run_id}")
    return 0
