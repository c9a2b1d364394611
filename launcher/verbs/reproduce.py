"""`muster reproduce`: a run once more, from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conf.layout import RunFolder
    from conf.record import Plan
    from launcher.send.proposal import Proposal

HELP = "a run once more from the start, under a new name"
EXAMPLES = """
muster reproduce demo
muster reproduce demo --name demo-control
muster reproduce demo --print    # the command that makes it on another machine
"""


def run(argv: list[str]) -> int:
    """Start the same run beside the first, or print how."""
    from conf.record import read_plan
    from launcher.flags import Parser
    from launcher.runs import target

    parser = Parser("reproduce", HELP, EXAMPLES)
    parser.add_argument("run", metavar="RUN", help="a name, an id, a folder or a Slurm job id")
    parser.add_argument("--name", metavar="NAME", help="what the new run is called (default: NAME-again)")
    parser.add_argument("--print", action="store_true", help="print the whole command instead, for another machine")
    parser.add_argument("--changed-data", action="store_true", help="also where files of the data have changed since")
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    folder = target.find(flags.run, flags.run_root)
    plan = read_plan(folder.run_json)
    if flags.print:
        from launcher.compare.overrides import command_of
        from launcher.compose.compose import compose

        print(command_of(plan, compose([]), flags.name))
        return 0
    return _start(folder, plan, flags)


def _start(folder: RunFolder, plan: Plan, flags: Any) -> int:
    from conf.schema import ClusterKind
    from launcher.runs import rundir
    from launcher.send.proposal import require_fit
    from launcher.send.reproduce import propose_again
    from launcher.send.submit import ask_first
    from launcher.show.show import headline

    proposal, lines = propose_again(folder, plan, flags.name, flags.changed_data)
    require_fit(proposal)
    _refuse_taken(proposal, flags)
    again = proposal.plan
    note = ask_first(again, proposal.artifacts) if again.config.cluster.kind is ClusterKind.slurm else ""
    print(headline(again))
    for line in lines:
        print(f"not as it was: {line}")
    code = _send(rundir.create(again, proposal.artifacts), again, note)
    print(f"compare  muster diff {plan.run_id} {again.run_id}")
    return code


def _refuse_taken(proposal: Proposal, flags: Any) -> None:
    from pathlib import Path

    from launcher.problems import ConfigurationError, Problem

    if Path(proposal.plan.run_dir).exists():
        raise ConfigurationError([Problem("--name", flags.name or "", "is a run already", "another name")])


def _send(folder: RunFolder, plan: Plan, note: str) -> int:
    from conf.schema import ClusterKind
    from launcher.send.foreground import run_in_foreground
    from launcher.send.submit import send_all

    if plan.config.cluster.kind is ClusterKind.local:
        return run_in_foreground(folder, plan)
    print(f"job {send_all(folder, plan)}{note}\n\nwatch    muster status {plan.run_id} -w")
    return 0
