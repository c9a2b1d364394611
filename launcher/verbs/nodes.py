"""`muster nodes`: the ledger of bad nodes."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from conf.node_ledger import Suspect
    from conf.schema import RunConfig

HELP = "nodes with evidence against them; forget one, add one"
ABOUT = """\
The ledger of bad nodes: what pre-flights and failed attempts saw of a node, until it expires. New jobs leave out
nodes with enough evidence: one strong note, or weak ones of two runs."""
EXAMPLES = """
muster nodes                                      # nodes, evidence, until when
muster nodes cluster=mysite --json
muster nodes add gpu07 --why "NVLink errors in dmesg, ticket 4711"
muster nodes forget gpu07                         # it was repaired
"""
ACTIONS = ("add", "forget")
MOST_DAYS = 36500
COLUMNS = ("node", "left out", "seen", "until", "attempts", "runs", "evidence")


def run(argv: list[str]) -> int:
    """Show the ledger, or write into it."""
    from launcher.compose.overrides import split
    from launcher.flags import Parser
    from launcher.problems import ConfigurationError, Problem

    parser = Parser("nodes", ABOUT, EXAMPLES, overrides=True)
    parser.add_argument("--why", metavar="TEXT", help="for add: what is wrong with the node")
    parser.add_argument("--days", type=float, metavar="N", help="for add: until when (default: health.node_days)")
    parser.add_argument("--json", action="store_true", help="a list with one object a node")
    flags, words = split(parser, argv)
    named = [word for word in words if "=" not in word and not word.startswith(("+", "~", "-"))]
    action, names = (named[0], named[1:]) if named else ("", [])
    if action and (action not in ACTIONS or not names):
        raise ConfigurationError([Problem(" ".join(named), "", "is not `add NODE --why …` or `forget NODE`")])
    problems = []
    if action == "add" and not flags.why:
        problems.append(Problem("--why", "", "says what is wrong with the node; others will read it"))
    if flags.days is not None and not 0 < flags.days <= MOST_DAYS:
        problems.append(Problem("--days", f"{flags.days:g}", f"has to be above 0 and at most {MOST_DAYS}"))
    if not action:
        given = [name for name in ("--why", "--days") if getattr(flags, name[2:]) is not None]
        problems += [Problem(name, "", "goes with `add NODE`") for name in given]
    if problems:
        raise ConfigurationError(problems)
    config, folder = _ledger([word for word in words if word not in named])
    if action:
        _write(folder, config, action, names, flags)
    suspects = _read(folder)
    if flags.json:
        print(json.dumps([_as_json(suspect) for suspect in suspects], indent=2))
    else:
        _print(folder, suspects)
    return 0


def _ledger(words: list[str]) -> tuple[RunConfig, Path]:
    """The configuration, and the ledger of its cluster; the machine's own Slurm where no cluster is named."""
    from pathlib import Path

    from launcher.compose.compose import compose
    from launcher.facts.nodes import ledger_folder
    from launcher.facts.slurm import gather_slurm

    config = compose(words)
    name = "" if config.cluster.node_ledger else gather_slurm(config.cluster).cluster_name
    return config, ledger_folder(config.cluster, name, Path.cwd())


def _write(folder: Path, config: RunConfig, action: str, names: list[str], flags: Any) -> None:
    from conf.node_ledger import DAY_S, FORGET, STRONG, Note, write_note
    from launcher.problems import ConfigurationError, Problem

    now = time.time()
    until = now + DAY_S * (flags.days if flags.days is not None else config.health.node_days)
    for name in names:
        weight, cause = (STRONG, "added") if action == "add" else (FORGET, "forgotten")
        try:
            write_note(folder, Note(name, now, until, cause, flags.why or "", weight))
        except ValueError as error:
            raise ConfigurationError([Problem(name or "''", "", "is not the name of one node")]) from error


def _read(folder: Path) -> list[Suspect]:
    from conf.node_ledger import read_suspects

    return read_suspects(folder, time.time())


def _print(folder: Path, suspects: list[Suspect]) -> None:
    from launcher.show.show import print_table

    if suspects:
        print_table(COLUMNS, [table_row(suspect, time.time()) for suspect in suspects])
    else:
        print("no evidence against any node")
    print(f"ledger: {folder}", file=sys.stderr)


def table_row(suspect: Suspect, now: float) -> tuple[str, ...]:
    """A node as a row of the table."""
    from launcher.show import units

    newest = suspect.notes[-1]
    runs = sorted({note.run for note in suspect.notes if note.run})
    return (
        suspect.node,
        "yes" if suspect.is_bad else "no",
        f"{units.duration(now - newest.time)} ago",
        f"in {units.duration(suspect.until - now)}",
        str(len({(note.run, note.attempt) for note in suspect.notes})),
        ", ".join(runs) or f"by {newest.user}",
        "; ".join(dict.fromkeys(f"{note.cause}: {note.evidence}" for note in suspect.notes)),
    )


def _as_json(suspect: Suspect) -> dict[str, Any]:
    return {
        "node": suspect.node,
        "left_out": suspect.is_bad,
        "until": suspect.until,
        "notes": [vars(note) for note in suspect.notes],
    }
