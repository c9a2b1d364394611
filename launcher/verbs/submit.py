"""`muster submit`: a run on a Slurm cluster."""

from __future__ import annotations

from typing import Any

HELP = "send a run to Slurm; returns at once"
EXAMPLES = """
muster submit experiment=gsm8k cluster=devcluster cluster.nodes=2
muster submit model=hf model.model_name_or_path=./Llama-3.2-1B data.train_file=train.jsonl cluster=slurm cluster.nodes=4
muster submit experiment=gsm8k cluster=slurm -m optim.learning_rate=1e-5,2e-5
"""


def run(argv: list[str]) -> int:
    """Plan, ask sbatch whether it would take it, make the run folder, send."""
    from launcher.compose.overrides import each_config, split
    from launcher.flags import Parser

    parser = Parser("submit", HELP, EXAMPLES, overrides=True)
    parser.add_argument("--json", action="store_true", help="one line of JSON: id, folder, job_id")
    flags, words = split(parser, argv)
    return each_config(words, lambda config: _submit(config, flags, words))


def _submit(config: Any, flags: Any, words: list[str]) -> int:
    import json

    from conf.schema import ClusterKind
    from launcher.problems import ConfigurationError, Problem
    from launcher.runs import rundir
    from launcher.send.foreground import find_earlier, once_more
    from launcher.send.proposal import propose_config, require_kind
    from launcher.send.submit import ask_first, send_all
    from launcher.show.show import headline

    proposal = propose_config(config)
    plan = proposal.plan
    require_kind(plan, ClusterKind.slurm, "run")
    earlier = find_earlier(plan)
    if earlier is not None and earlier.state.value == "done":
        rule = f"is done already ({plan.run_id}); once more from the start: {once_more('submit', words, plan)}"
        raise ConfigurationError([Problem("name", plan.config.name or plan.run_id, rule)])
    estimate = ask_first(plan, proposal.artifacts)
    folder = rundir.create(plan, proposal.artifacts)
    folder.stop.unlink(missing_ok=True)
    job = send_all(folder, plan)
    if flags.json:
        print(json.dumps({"id": plan.run_id, "folder": str(folder.path), "job_id": job}))
        return 0
    print(headline(plan))
    print(f"job {job}{estimate}")
    print(f"\nwatch   muster status {plan.run_id}\n        muster logs {plan.run_id} -f")
    print(f"end     muster stop {plan.run_id}")
    return 0
