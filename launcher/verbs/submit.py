"""`muster submit`: a run on a Slurm cluster."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from conf.schema import RunConfig
    from launcher.send.sweep import Ready

HELP = "send a run to Slurm; returns at once"
EXAMPLES = """
muster submit experiment=gsm8k cluster=devcluster cluster.nodes=2
muster submit model=hf model.model_name_or_path=./Llama-3.2-1B data.train_file=train.jsonl cluster=slurm cluster.nodes=4
muster submit experiment=gsm8k cluster=slurm -m optim.learning_rate=1e-5,2e-5
"""


def run(argv: list[str]) -> int:
    """Plan, ask sbatch whether it would take it, make the run folder, send."""
    from launcher.compose.overrides import split
    from launcher.flags import Parser

    parser = Parser("submit", HELP, EXAMPLES, overrides=True)
    parser.add_argument("--json", action="store_true", help="one line of JSON: id, folder, job_id")
    flags, words = split(parser, argv)

    from launcher.send.sweep import each_run  # Hydra, which --help needs not

    headings = not flags.json
    return each_run(words, _prepare, lambda ready: _submit(ready, flags), summary=headings, headings=headings)


def _prepare(config: RunConfig, words: list[str]) -> Ready:
    """Refuses what is running; asks sbatch about what is not done yet."""
    from conf.outcome import State
    from conf.schema import ClusterKind
    from launcher.send.foreground import find_earlier
    from launcher.send.proposal import propose_config, require_kind
    from launcher.send.submit import ask_first
    from launcher.send.sweep import Ready

    proposal = propose_config(config)
    require_kind(proposal.plan, ClusterKind.slurm, "run")
    earlier = find_earlier(proposal.plan)
    done = earlier is not None and earlier.state is State.done
    return Ready(proposal, words, done=done, note="" if done else ask_first(proposal.plan, proposal.artifacts))


def _submit(ready: Ready, flags: argparse.Namespace) -> int:
    import json

    from launcher.problems import ConfigurationError, Problem
    from launcher.runs import rundir
    from launcher.send.foreground import once_more
    from launcher.send.submit import send_all
    from launcher.show.show import headline

    plan = ready.proposal.plan
    if ready.done:
        again = f"once more from the start: {once_more('submit', ready.words, plan)}"
        if not ready.point:
            rule = f"is done already ({plan.run_id}); {again}"
            raise ConfigurationError([Problem("name", plan.config.name or plan.run_id, rule)])
        print(f"{plan.run_id} is done already; {again}", file=sys.stderr if flags.json else sys.stdout)
        return 0
    folder = rundir.create(plan, ready.proposal.artifacts)
    folder.stop.unlink(missing_ok=True)
    job = send_all(folder, plan)
    if flags.json:
        print(json.dumps({"id": plan.run_id, "folder": str(folder.path), "job_id": job}))
        return 0
    print(headline(plan))
    print(f"job {job}{ready.note}")
    print(f"\nwatch   muster status {plan.run_id}\n        muster logs {plan.run_id} -f")
    print(f"end     muster stop {plan.run_id}")
    return 0
