"""`muster resume`: go on with a run from its newest checkpoint that verifies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conf.layout import RunFolder
    from launcher.runs.standing import Standing

HELP = "go on from the newest checkpoint, also longer, elsewhere"
EXAMPLES = """
muster resume demo
muster resume demo train.max_steps=300
muster resume demo cluster.ranks_per_node=1
muster resume demo cluster.nodes=4 cluster.time="'12:00:00'"
"""


def run(argv: list[str]) -> int:
    """Start the next attempt of a run."""
    from conf.record import read_plan
    from launcher.compose.overrides import split
    from launcher.flags import Parser
    from launcher.runs import target
    from launcher.runs.standing import stand
    from launcher.send.foreground import refuse_live
    from launcher.send.scheduler import live_jobs

    parser = Parser("resume", HELP, EXAMPLES)
    parser.usage = "muster resume RUN [flags] [key=value …]"
    parser.add_argument("run", metavar="RUN", help="a name, an id, a folder or a Slurm job id")
    parser.add_argument("--force", action="store_true", help="also with changed keys that make it another experiment")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder of your own with groups and files")
    target.add_run_root(parser)
    flags, words = split(parser, argv)
    folder = target.find(flags.run, flags.run_root)
    standing = stand(folder, live_jobs([folder]))
    refuse_live(standing)
    if words:
        _change(folder, standing, words, flags)
    else:
        _refuse_done(standing)
    folder.stop.unlink(missing_ok=True)
    return _start(folder, read_plan(folder.run_json))


def _refuse_done(standing: Standing) -> None:
    from launcher.problems import ConfigurationError, Problem

    if standing.state.value == "done":
        steps = standing.total_steps
        more = f"train.max_steps={2 * steps}" if steps else ""
        raise ConfigurationError([Problem(standing.plan.run_id, "", "is done; give it more steps to go on", more)])


def _change(folder: RunFolder, standing: Standing, words: list[str], flags: Any) -> None:
    from conf.schema import ClusterKind
    from launcher.send.proposal import require_fit
    from launcher.send.replan import replan, write_again
    from launcher.send.submit import ask_first

    proposal, lines = replan(standing.plan, words, flags.config_dir, flags.force)
    if not lines:
        _refuse_done(standing)
    require_fit(proposal)
    if proposal.plan.config.cluster.kind is ClusterKind.slurm:
        ask_first(proposal.plan, proposal.artifacts)
    for line in lines:
        print(line)
    write_again(folder, proposal.plan, proposal.artifacts)


def _start(folder: RunFolder, plan: Any) -> int:
    from conf.schema import ClusterKind
    from launcher.runs.saved import conversion
    from launcher.send.foreground import run_in_foreground
    from launcher.show.show import headline

    print(headline(plan), flush=True)
    if words := conversion(folder, plan):
        print(words, flush=True)
    if plan.config.cluster.kind is ClusterKind.local:
        return run_in_foreground(folder, plan)
    from launcher.send.submit import send_all

    print(f"job {send_all(folder, plan)}; watch: muster status {plan.run_id}")
    return 0
