"""`muster run`: a run on this machine, in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conf.schema import RunConfig
    from launcher.facts.gather import Gatherer
    from launcher.sweep.grid import Grid, Ready
    from launcher.sweep.record import Sweep

HELP = "train here, in the foreground; without arguments: the demo"
EXAMPLES = """
muster run
muster run experiment=demo train.max_steps=50 parallel=zero1
muster run model=hf model.model_name_or_path=./Qwen2.5-0.5B data.train_file=train.jsonl data.validation_size=0.05
"""
DEMO = ["experiment=demo"]


def run(argv: list[str]) -> int:
    """Plan, make the run folder, train, say how it went."""
    from launcher.compose.overrides import split
    from launcher.flags import NO_CACHE, Parser

    parser = Parser("run", HELP, EXAMPLES, overrides=True)
    parser.add_argument("--no-cache", action="store_true", help=NO_CACHE)
    flags, words = split(parser, argv)
    if not argv:
        print("No arguments: the demo, `muster run experiment=demo`. Its plan: `muster plan experiment=demo`.\n")
        words = DEMO
    from launcher.facts.gather import Gatherer  # Hydra and facts, which --help needs not
    from launcher.send.sweep import each_run
    from launcher.verbs.sweep_search import run_search

    look = Gatherer(remember=not flags.no_cache)
    return each_run(words, lambda config, words: _prepare(config, words, look), _run, _run_sweep, run_search)


def extend_sweep(sweep: Sweep, words: list[str]) -> int:
    """Run the points that the words add to a sweep of this machine; the exit code."""
    from launcher.facts.gather import Gatherer
    from launcher.sweep.again import further_points

    look = Gatherer()
    grid, ready = further_points(sweep, words, lambda config, own: _prepare(config, own, look))
    if not ready:
        print(f"{sweep.id} has these points already")
        return 0
    return _run_sweep(grid, ready)


def _prepare(config: RunConfig, words: list[str], look: Gatherer) -> Ready:
    """Refuses what is running."""
    from conf.schema import ClusterKind
    from launcher.send.foreground import find_earlier
    from launcher.send.proposal import propose_config, require_fit, require_kind
    from launcher.sweep.grid import Ready

    proposal = propose_config(config, look=look)
    require_kind(proposal.plan, ClusterKind.local, "submit")
    require_fit(proposal)
    find_earlier(proposal.plan)
    return Ready(proposal, words)


def _run_sweep(grid: Grid, ready: list[Ready]) -> int:
    """Each point is a run of its own, `sweep.jobs` of them at a time."""
    from launcher.sweep.here import run_points

    return run_points(grid, ready, _run)


def _run(ready: Ready) -> int:
    from conf.outcome import State
    from launcher.runs import rundir
    from launcher.runs.saved import conversion
    from launcher.send.foreground import find_earlier, once_more, run_in_foreground
    from launcher.show.show import headline

    proposal, words = ready.proposal, ready.words
    print(headline(proposal.plan), flush=True)
    earlier = find_earlier(proposal.plan)
    if earlier is not None and earlier.state is State.done:
        from launcher.show.ending import print_done

        again = once_more("run", words, proposal.plan)
        print(f"{proposal.plan.run_id} is done already. Once more from the start: {again}\n")
        print_done(earlier.folder, earlier.plan)
        return 0
    folder = rundir.create(proposal.plan, proposal.artifacts)
    if earlier is not None and (said := conversion(folder, proposal.plan)):
        print(said, flush=True)
    return run_in_foreground(folder, proposal.plan)
