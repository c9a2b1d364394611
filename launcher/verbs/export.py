"""`muster export`: the Hugging Face model of a checkpoint, again or for the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conf.layout import RunFolder

HELP = "write the verified Hugging Face model of a checkpoint"
EXAMPLES = """
muster export demo
muster export demo --step 100
"""


def run(argv: list[str]) -> int:
    """Start the ranks of a run again, load a checkpoint and export it."""
    from launcher.flags import Parser
    from launcher.problems import MusterError
    from launcher.runs import target
    from launcher.runs.standing import stand
    from launcher.send.foreground import refuse_live
    from launcher.send.scheduler import live_jobs

    parser = Parser("export", HELP, EXAMPLES)
    parser.add_argument("run", metavar="RUN", help="a name, an id, a folder or a Slurm job id")
    parser.add_argument("--step", type=int, metavar="N", help="this checkpoint (default: the newest that verifies)")
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    folder = target.find(flags.run, flags.run_root)
    standing = stand(folder, live_jobs([folder]))
    refuse_live(standing)
    if standing.plan.script is not None:
        raise MusterError(f"{standing.plan.run_id} is a program of your own; the model that it saves is its own too")
    _require_checkpoint(folder, flags.step)
    # An old STOP would end the export before it began.
    folder.stop.unlink(missing_ok=True)
    words = [] if flags.step is None else ["--step", str(flags.step)]
    return _start(folder, standing.plan, words)


def _require_checkpoint(folder: RunFolder, step: int | None) -> None:
    from launcher.problems import NotFoundError

    names = sorted(path.name for path in folder.checkpoints.glob("step-*") if path.name[5:].isdigit())
    if not names:
        raise NotFoundError(f"{folder.path.name} has no checkpoint to export")
    if step is not None and folder.checkpoint(step).name not in names:
        raise NotFoundError(f"{folder.path.name} has no checkpoint of step {step}; there are: {', '.join(names)}")


def _start(folder: RunFolder, plan: Any, words: list[str]) -> int:
    from conf.schema import ClusterKind

    if plan.config.cluster.kind is ClusterKind.local:
        from launcher.send.foreground import export_in_foreground

        return export_in_foreground(folder, plan, words)
    from launcher.runs.submissions import EXPORT
    from launcher.send.submit import send

    print(f"job {send(folder, plan, EXPORT, words=words)}; watch: muster status {plan.run_id}")
    return 0
