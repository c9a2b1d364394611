"""`muster diff`: what two runs have apart."""

from __future__ import annotations

import json
import sys

HELP = "what differs between two runs: configuration to results"
EXAMPLES = """
muster diff demo other
muster diff demo other --only configuration,results
muster diff demo other --json
"""


def run(argv: list[str]) -> int:
    """Print what differs; nothing of it is an error."""
    from launcher.compare.compare import compare
    from launcher.flags import Parser
    from launcher.runs import target
    from launcher.send.scheduler import live_jobs

    parser = Parser("diff", HELP, EXAMPLES)
    parser.add_argument("one", metavar="A", help="a run: a name, an id, a folder or a Slurm job id")
    parser.add_argument("other", metavar="B", help="the run that it is compared with")
    parser.add_argument("--only", metavar="PART,…", help="of configuration, plan, data, code, versions, results")
    parser.add_argument("--json", action="store_true", help="part → key → the two values")
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    one, other = target.find(flags.one, flags.run_root), target.find(flags.other, flags.run_root)
    found = compare(one, other, live_jobs([one, other]))
    wanted = _wanted(flags.only, list(found.parts))
    found = type(found)({part: found.parts[part] for part in wanted}, {part: found.same[part] for part in wanted})
    if flags.json:
        print(json.dumps({"runs": [one.path.name, other.path.name], "parts": found.as_json()}, indent=2))
        return 0
    from launcher.show.diff_page import diff_lines
    from launcher.show.screen import size_of
    from launcher.show.show import Page

    page = Page(sys.stdout)
    width = size_of(sys.stdout)[0] if sys.stdout.isatty() else 160
    for pieces in diff_lines(one.path.name, other.path.name, found, width):
        print("".join(page.paint(text, style) for text, style in pieces).rstrip())
    if not found.any:
        print("nothing differs")
    return 0


def _wanted(given: str | None, parts: list[str]) -> list[str]:
    from launcher.problems import ConfigurationError, Problem, nearest

    words = [word.strip() for word in given.split(",")] if given else parts
    wrong = [
        Problem("--only", word, f"is no part; there are {', '.join(parts)}", nearest(word, parts) or "")
        for word in words
        if word not in parts
    ]
    if wrong:
        raise ConfigurationError(wrong)
    return [part for part in parts if part in words]
