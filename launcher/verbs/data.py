"""`muster data`: what the documents of a configuration or of a run are like, without training."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conf.data_report import DataReport
    from conf.schema import RunConfig
    from launcher.sweep.grid import Ready

HELP = "what the data is like: lengths, duplicates, labels, leaks"
EXAMPLES = """
muster data model=tiny data.train_file=train.jsonl data.validation_size=0.1
muster data model=tiny data.train_file=train.jsonl data.test_file=test.jsonl data.clean.drop_leaks=true
muster data experiment=demo --json
muster data demo
"""


def run(argv: list[str]) -> int:
    """Print the report on the data of a configuration, made here and now, or that of a run."""
    from launcher.compose.overrides import split
    from launcher.flags import Parser
    from launcher.runs import target

    parser = Parser("data", HELP, EXAMPLES, overrides=True)
    parser.add_argument("--json", action="store_true", help="the report as data_report.json holds it")
    target.add_run_root(parser)
    flags, words = split(parser, argv)
    if len(words) == 1 and "=" not in words[0] and not words[0].startswith(("+", "~", "-")):
        return _show_run(words[0], flags)
    if flags.run_root:
        from launcher.problems import ConfigurationError, Problem

        rule = "says where RUN is looked for; of a configuration it is a key"
        raise ConfigurationError([Problem("--run-root", flags.run_root, rule, f"run_root={flags.run_root}")])

    from launcher.send.sweep import each_run  # Hydra, which --help needs not

    return each_run(words, _prepare, lambda ready: _show(ready, flags), headings=not flags.json)


def _show_run(argument: str, flags: Any) -> int:
    from conf.data_report import read_data_report
    from launcher.problems import NotFoundError
    from launcher.runs import target

    folder = target.find(argument, flags.run_root)
    try:
        report = read_data_report(folder.data_report)
    except FileNotFoundError as error:
        raise NotFoundError(f"{folder.path.name} has no {folder.data_report.name}: its data is not prepared") from error
    _print(folder.path.name, report, flags)
    return 0


def _prepare(config: RunConfig, words: list[str]) -> Ready:
    """Data is prepared for no run, so that the name may be that of any."""
    from dataclasses import replace

    from conf.schema import TaskName
    from launcher.facts.gather import gather
    from launcher.problems import ConfigurationError, Problem
    from launcher.send.proposal import propose_config
    from launcher.sweep.grid import Ready

    if config.task.name is TaskName.script:
        raise ConfigurationError([Problem("task.name", "script", "reads its data itself")])
    return Ready(propose_config(config, look=lambda one: replace(gather(one), existing_runs=())), words)


def _show(ready: Ready, flags: Any) -> int:
    from launcher.send.documents import prepare_documents

    report = prepare_documents(ready.proposal)
    if report is None:
        return 1
    _print(ready.point or "data", report, flags)
    return 0


def _print(title: str, report: DataReport, flags: Any) -> None:
    if flags.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return
    from launcher.show.data_page import print_data

    print_data(title, report, sys.stdout)
