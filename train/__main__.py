"""What runs on the nodes: `python -I RUN/code/muster.zip VERB RUN`. Each verb imports what it needs and no more.

agent    a node's part in an attempt: data step, ranks, report
export   the same for the Hugging Face model of a checkpoint: `export RUN [--step N]`
prepare  the data step alone: by the agent of node 0, or by a CPU job before
data     the documents alone, in a folder that is no run: what `muster data` shows
preflight   what this node is like, in words for its agent: started by it
decide   what comes after an attempt
push     the metrics replayed into W&B: `push RUN [--follow]`
dashboard   a workspace and a report on W&B, of the board on standard input: `dashboard RUN [--dry-run]`
last-word   what W&B is told of an attempt that could not speak for itself: `last-word RUN ATTEMPT [--goes-on]`
rank, export-rank   one rank, started by an agent that does not fork
write-checkpoints   writes a rank's checkpoints beside its training; started by the rank
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from conf.layout import RunFolder

if TYPE_CHECKING:
    from train.node.process import Entry
    from train.node.start import Program

USAGE = "usage: python -I RUN/code/muster.zip agent|prepare|decide RUN, or export RUN [--step N]"


def main() -> NoReturn:
    """Run the verb of the command line and leave with its exit status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a verb; its exit status: 0 where all ended well, 2 for a wrong command line, else 1."""
    verb, *rest = arguments or [""]
    if verb not in (*VERBS, "push", "dashboard", "last-word") or not rest:
        print(USAGE, file=sys.stderr)
        return 2
    folder = RunFolder(Path(rest[0]).absolute())
    if verb == "push":
        return _push(folder, "--follow" in rest[1:])
    if verb == "dashboard":
        return _dashboard("--dry-run" in rest[1:])
    if verb == "last-word":
        return _last_word(folder, rest[1:])
    step = _read_step(rest[1:])
    if step is None or (rest[1:] and not verb.startswith("export")):
        print(USAGE, file=sys.stderr)
        return 2
    return VERBS[verb](folder, step if step >= 0 else None)


def _read_step(words: list[str]) -> int | None:
    """N of `--step N`; -1 without it, None where the words are something else."""
    if not words:
        return -1
    return int(words[1]) if len(words) == 2 and words[0] == "--step" and words[1].isdigit() else None


def _agent(folder: RunFolder, _step: int | None) -> int:
    from train.node.env import read_node_env
    from train.node.start import TRAIN, Program, own_argv
    from train.node.streams import use_patient_streams

    use_patient_streams()
    good = _run_agent(folder, Program(TRAIN, _train, own_argv("rank", folder.path)))
    environment = read_node_env(os.environ)
    if environment.is_local:
        from train.node.aftermath import conclude

        decision = conclude(folder, environment)
        good = good and decision.good
    return 0 if good else 1


def _export(folder: RunFolder, step: int | None) -> int:
    from train.node.start import EXPORT, Program, own_argv

    words = [] if step is None else ["--step", str(step)]
    argv = [*own_argv("export-rank", folder.path), *words]
    return 0 if _run_agent(folder, Program(EXPORT, _exporting(step), argv)) else 1


def _run_agent(folder: RunFolder, program: Program) -> bool:
    from conf.record import read_plan
    from train.node.agent import run_agent
    from train.node.env import MissingEnvironmentError, read_node_env
    from train.node.node import Node
    from train.node.start import own_argv

    try:
        plan, environment = read_plan(folder.run_json), read_node_env(os.environ)
    except (OSError, ValueError, MissingEnvironmentError) as error:
        raise SystemExit(f"muster: {error}") from error
    return run_agent(Node(folder, plan, environment, own_argv("prepare", folder.path), program))


def _train(folder: RunFolder, attempt: int) -> None:
    from train.node.imports import kept

    with kept():
        from train.rank import main as train_rank

    train_rank(folder, attempt)


def _exporting(step: int | None) -> Entry:
    def export(folder: RunFolder, attempt: int) -> None:
        from train.node.imports import kept

        with kept():
            from train.export.rank import main as export_checkpoint

        export_checkpoint(folder, attempt, step)

    return export


def _rank(folder: RunFolder, _step: int | None) -> NoReturn:
    from conf.record import read_plan

    script = read_plan(folder.run_json).script
    if script is not None:
        from train.node.script import become_script

        become_script(folder, script)
    _become_rank(folder, _train)


def _export_rank(folder: RunFolder, step: int | None) -> NoReturn:
    _become_rank(folder, _exporting(step))


def _become_rank(folder: RunFolder, entry: Entry) -> NoReturn:
    from train.node.env import read_node_env
    from train.node.process import leave_process, run_rank

    run_rank(entry, folder, read_node_env(os.environ).attempt, agent_pid=os.getppid())
    leave_process(0)


def _push(folder: RunFolder, follow: bool) -> int:
    from train.tracking.push import push

    return push(folder, follow)


def _dashboard(dry_run: bool) -> int:
    from train.tracking.dashboard import dashboard

    return dashboard(sys.stdin.buffer.read(), dry_run)


def _last_word(folder: RunFolder, words: list[str]) -> int:
    from train.tracking.last_word import say_last_word

    return say_last_word(folder, int(words[0]), "--goes-on" in words[1:])


def _prepare(folder: RunFolder, _step: int | None) -> int:
    from train.node.data_step import run_data_step
    from train.node.env import read_attempt

    return run_data_step(folder, read_attempt(os.environ))


def _data(folder: RunFolder, _step: int | None) -> int:
    from train.node.data_step import run_documents_step

    return run_documents_step(folder)


def _write_checkpoints(_folder: RunFolder, _step: int | None) -> int:
    from train.checkpoint.writer import main as serve

    return serve()


def _preflight(folder: RunFolder, _step: int | None) -> int:
    from train.preflight.preflight import run_preflight

    return run_preflight(folder)


def _decide(folder: RunFolder, _step: int | None) -> int:
    from train.node.aftermath import conclude
    from train.node.env import read_node_env

    conclude(folder, read_node_env(os.environ))
    return 0


VERBS: dict[str, Callable[[RunFolder, int | None], int]] = {
    "agent": _agent,
    "export": _export,
    "prepare": _prepare,
    "data": _data,
    "preflight": _preflight,
    "decide": _decide,
    "rank": _rank,
    "export-rank": _export_rank,
    "write-checkpoints": _write_checkpoints,
}

if __name__ == "__main__":
    main()
