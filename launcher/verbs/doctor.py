"""`muster doctor`: what this machine or site can do, what follows from what is missing, and a site's file."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conf.schema import RunConfig
    from launcher.doctor.site import Site

HELP = "what this machine and its Slurm can do; --site, --bench"
EXAMPLES = """
muster doctor
muster doctor --json
muster doctor cluster.python=/opt/venv/bin/python          # where the ranks have another Python
muster doctor --site > mysite.yaml                         # a cluster file from what Slurm says, with comments
muster doctor --bench cluster.ranks_per_node=2             # here: products, memory, disks, all-reduce
muster doctor --bench cluster=mysite cluster.nodes=2       # the same as a job of two nodes
muster doctor --build-ops                                  # compile DeepSpeed's CPU Adam now
"""


def run(argv: list[str]) -> int:
    """Look around; exit code 0 also where something is missing, since not everybody needs all of it."""
    from launcher.compose.overrides import split
    from launcher.flags import Parser

    parser = Parser("doctor", HELP, EXAMPLES, overrides=True)
    parser.add_argument("--site", action="store_true", help="print a cluster file made from what was found")
    parser.add_argument("--bench", action="store_true", help="measure: here, or as a job with cluster=…")
    parser.add_argument("--build-ops", action="store_true", help="compile DeepSpeed's CPU Adam where runs look for it")
    parser.add_argument("--python", metavar="FILE", help="Python of the ranks; the same as cluster.python=FILE")
    parser.add_argument("--run-root", metavar="DIR", help="folder of runs; the same as run_root=DIR")
    parser.add_argument("--json", action="store_true", help="a list with section, topic, ok, found, follows")
    flags, words = split(parser, argv)
    words += [f"cluster.python={flags.python}"] if flags.python else []
    words += [f"run_root={flags.run_root}"] if flags.run_root else []
    if flags.bench or flags.build_ops:
        return _measure(words, flags)
    return _look(words, flags)


def _compose(words: list[str]) -> RunConfig:
    from launcher.compose.compose import compose

    return compose(words)


def _look(words: list[str], flags: Any, measured: dict[str, float] | None = None) -> int:
    from pathlib import Path

    from launcher.doctor.examine import examine
    from launcher.doctor.site import look

    config = _compose(words)
    site = look(config.cluster.slurm_conf)
    python = config.cluster.python or sys.executable
    if flags.site:
        return _print_site(site, python, Path(config.run_root), measured)
    sections = examine(python, Path(config.run_root).expanduser(), Path(config.cluster.scratch), site)
    if flags.json:
        rows = [{"section": name, **one.as_json()} for name, found in sections.items() for one in found]
        print(json.dumps(rows, indent=2))
        return 0
    from launcher.show.doctor import print_findings

    print_findings(sections)
    return 0


def _print_site(site: Site | Any, python: str, run_root: Any, measured: dict[str, float] | None) -> int:
    import socket
    import time
    from pathlib import Path

    from launcher.doctor import links
    from launcher.doctor.finding import Finding
    from launcher.doctor.site_file import Here, site_file
    from launcher.doctor.storage import place_of
    from launcher.problems import SchedulerError

    if isinstance(site, Finding):
        raise SchedulerError(f"a cluster's file is made from what Slurm says: {site.found}; {site.follows}")
    here = Here(
        python=place_of(Path(python).absolute()),
        run_root=place_of(run_root.expanduser().absolute()),
        adapters=tuple(links.adapters()),
        interfaces=tuple(links.interfaces()),
        measured=measured,
    )
    print(site_file(site, here, f"on {socket.gethostname()}, {time.strftime('%Y-%m-%d')}"), end="")
    return 0


def _measure(words: list[str], flags: Any) -> int:
    from contextlib import redirect_stdout

    from launcher.doctor.bench import findings, measure, where, words_of

    # What a run says while it goes must not be in a file or in JSON.
    with redirect_stdout(sys.stderr if flags.site or flags.json else sys.stdout):
        plan, figures = measure(_compose([*words_of(flags.bench, flags.build_ops), *words]))
    if flags.site:
        return _look(words, flags, figures)
    if flags.json:
        print(json.dumps({"run": plan.run_id, "folder": plan.run_dir, **figures}, indent=2))
        return 0
    from launcher.show.doctor import print_findings

    print_findings({f"Measured on {where(plan)}": list(findings(figures))})
    return 0
