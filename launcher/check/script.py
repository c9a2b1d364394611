"""What is wrong with a person's own program (`task=script`), and its keys where there is none."""

from __future__ import annotations

import re
from collections.abc import Iterator

from conf.schema import RunConfig, Start, TaskName
from launcher.facts.facts import Facts
from launcher.problems import Problem

_OPTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def script_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """What keeps the program from being started, or its keys from meaning anything."""
    train = config.train
    if config.task.name is not TaskName.script:
        for key, given in (
            ("train.entrypoint", train.entrypoint),
            ("train.arguments", train.arguments),
            ("train.options", train.options),
        ):
            if given:
                yield Problem(key, str(given), f"means nothing for task={config.task.name.value}", "task=script")
        return
    if not train.entrypoint:
        yield Problem("train.entrypoint", "", "is missing: task=script needs the program that is started")
    elif facts.script.error:
        yield Problem("train.entrypoint", train.entrypoint, facts.script.error)
    for name, value in train.options.items():
        if not _OPTION.fullmatch(name):
            yield Problem("train.options", name, "is no name of an option: letters, digits, `_`, `-` and `.`")
        elif isinstance(value, dict):
            yield Problem(f"train.options.{name}", str(value), "is a mapping; an option has a value or a list of them")
    if config.cluster.start is Start.fork:
        rule = "does not go with task=script, whose program is a process of its own"
        yield Problem("cluster.start", "fork", rule, "exec")
