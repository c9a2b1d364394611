"""Every impossible combination in a configuration, found at once, with the numbers and the nearest valid value.

Pure: takes the configuration and the facts, returns problems. What is possible but deserves a word, the plan says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from conf.schema import RunConfig, TaskName
from launcher.check.adapter import adapter_key_problems
from launcher.check.batch import batch_problems, parallel_problems
from launcher.check.cleaning import cleaning_problems
from launcher.check.cluster import cluster_problems
from launcher.check.data import data_problems
from launcher.check.evaluation import evaluation_problems
from launcher.check.health import health_problems
from launcher.check.labels import label_problems
from launcher.check.method import method_problems
from launcher.check.model import model_problems
from launcher.check.numbers import number_problems
from launcher.check.script import script_problems
from launcher.check.selection import selection_problems
from launcher.check.streaming import streaming_problems
from launcher.check.task import task_problems
from launcher.facts.facts import Facts
from launcher.plan.content import content_of, difference, flatten, run_id
from launcher.plan.resolve import resolved
from launcher.problems import Problem

NAME_LENGTH = 100
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PROJECT_REFUSED = set("/\\#?%:")
_SHOWN_DIFFERENCES = 5

_SECRET_VALUE = re.compile(
    r"(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|://[^/\s:@]+:[^/\s@]+@"
    r"|\b[Bb]earer\s+[A-Za-z0-9._~+/-]{20,})"
)
_WANDB_KEY = re.compile(r"\b[0-9a-f]{40}\b")
_SECRET_NAME = re.compile(r"(?i)(^|[_.-])(token|secret|password|passwd|credentials?|(api|access|auth)_?key)$")
_COMMITS = ("model.revision",)


def check(config: RunConfig, facts: Facts) -> list[Problem]:
    """All problems of a configuration in the light of the facts; none where a plan can be made."""
    return [
        *_run_problems(config, facts),
        *number_problems(config, facts),
        *health_problems(config),
        *script_problems(config, facts),
        *(() if config.task.name is TaskName.script else _training_problems(config, facts)),
        *cluster_problems(config, facts),
        *_tracking_problems(config),
        *_secret_problems(config),
    ]


def _training_problems(config: RunConfig, facts: Facts) -> list[Problem]:
    """Those of Muster's own training."""
    return [
        *model_problems(config, facts),
        *task_problems(config, facts),
        *adapter_key_problems(config),
        *method_problems(config, facts),
        *evaluation_problems(config),
        *data_problems(config, facts),
        *selection_problems(config, facts),
        *label_problems(config, facts),
        *cleaning_problems(config, facts),
        *streaming_problems(config),
        *parallel_problems(config, facts),
        *batch_problems(config, facts),
    ]


def _run_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    if config.name is not None:
        rule = name_rule(config.name)
        if rule:
            yield Problem("name", config.name[:NAME_LENGTH], rule, tidy_name(config.name))
        else:
            yield from _taken_name(config, facts)
    if any(ord(letter) < 32 for letter in config.run_root) or not config.run_root:
        yield Problem(
            "run_root", repr(config.run_root), "has to be a folder's name without control characters", "./runs"
        )
    elif facts.run_root_error:
        yield Problem("run_root", config.run_root, f"cannot be used: {facts.run_root_error}")


def name_rule(name: str) -> str:
    """What is wrong with a run's name; empty where nothing is."""
    if len(name) > NAME_LENGTH:
        return f"has {len(name)} characters; at most {NAME_LENGTH} are possible"
    if not _NAME.fullmatch(name):
        return "may have the letters a to z, digits, `.`, `_` and `-`, and starts with a letter, a digit or `_`"
    return ""


def tidy_name(name: str) -> str:
    """The nearest name that is possible."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:NAME_LENGTH] or "run"


def _taken_name(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    frozen = resolved(config, facts)
    if any(run.run_id == run_id(frozen) for run in facts.existing_runs):
        return
    for run in facts.existing_runs[:1]:
        lines = difference(run.content, content_of(frozen))
        more = f" and {len(lines) - _SHOWN_DIFFERENCES} more" if len(lines) > _SHOWN_DIFFERENCES else ""
        shown = "; ".join(lines[:_SHOWN_DIFFERENCES])
        rule = f"is taken by a run with other content, {run.path} ({shown}{more}); choose another name"
        if not lines:
            rule = f"is taken by a run that has become this one, {run.path}; muster resume {run.run_id} goes on with it"
        yield Problem("name", str(config.name), rule, _next_name(run.name))


def _next_name(name: str) -> str:
    """`demo-2` after `demo`, `demo-3` after `demo-2`."""
    stem, _, number = name.rpartition("-")
    return f"{stem}-{int(number) + 1}" if stem and number.isdecimal() else f"{name}-2"


def _tracking_problems(config: RunConfig) -> Iterator[Problem]:
    tracking = config.tracking
    if not tracking.project or len(tracking.project) > 128 or _PROJECT_REFUSED & set(tracking.project):
        rule = "has to be 1 to 128 characters without / \\ # ? % :"
        yield Problem("tracking.project", tracking.project, rule, re.sub(r"[/\\#?%:]+", "-", tracking.project)[:128])
    for tag in tracking.tags:
        if not 1 <= len(tag) <= 64:
            yield Problem("tracking.tags", tag, "has a tag that is not 1 to 64 characters long", tag[:64])


def _secret_problems(config: RunConfig) -> Iterator[Problem]:
    """Values and names that look like secrets: whatever a configuration holds is written down for others to read."""
    rule = (
        "looks like a secret, and configurations are written into run folders; secrets are read on the node from "
        "~/.netrc, the Hugging Face token file, or the environment of a local run"
    )
    for key, value in flatten(msgspec.to_builtins(config)).items():
        for text in _texts(value):
            found = _SECRET_VALUE.search(text) or (_WANDB_KEY.search(text) if key not in _COMMITS else None)
            if found or (_SECRET_NAME.search(key) and text):
                yield Problem(key, "(hidden)", rule)
                break


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple):
        return [text for entry in value for text in _texts(entry)]
    if isinstance(value, dict):
        return [text for entry in value.values() for text in _texts(entry)]
    return []
