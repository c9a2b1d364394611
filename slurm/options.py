"""Options of sbatch and srun as text: pure, and the one place that quotes a value for an `#SBATCH` line.

Values come from people and are data. Each is either quoted so that sbatch reads back exactly what was given, or refused
with the option's name and the rule; nothing passes through a shell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Value = str | int | bool | None

MAX_VALUE_BYTES = 4000
"""sbatch copies an argument into a buffer of 8192 bytes (`_get_argument` in its source) without a word on overflow."""

BASIC_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG")
"""What leaves the submitting shell where nothing else is said; the scrub on the node lets these through."""

_OPTION = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[A-Za-z0-9_./:=,@%+\[\]*-]+")
_REFUSED = {
    "wait": "it would hold the submission until the job has ended",
    "wrap": "the script is Muster's own",
    "test-only": "Muster asks for the estimate itself",
    "parsable": "Muster sets it",
    "help": "it prints and sends nothing",
    "usage": "it prints and sends nothing",
    "version": "it prints and sends nothing",
    "export-file": "variables pass by name, see `export`",
    "get-user-env": "a login shell would bring back what the scrub takes away",
}


@dataclass(frozen=True)
class OptionProblem:
    """Why an option cannot be written."""

    option: str
    value: str
    rule: str

    def __str__(self) -> str:
        return f"--{self.option}={self.value[:80]!r} {self.rule}"


class OptionError(ValueError):
    """Options that cannot be written, all of them at once."""

    def __init__(self, problems: Sequence[OptionProblem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(map(str, problems)))


def check(options: Mapping[str, object]) -> list[OptionProblem]:
    """Everything in `options` that `render` would refuse."""
    problems = []
    for name, value in options.items():
        rule = _rule_broken(spelling(name), value)
        if rule:
            problems.append(OptionProblem(spelling(name), str(value), rule))
    return problems


def render(options: Mapping[str, Value]) -> list[str]:
    """One `#SBATCH --name=value` line an option, in the order given; True is a flag, None and False are left out.

    Raises:
        OptionError: some cannot be written; all are named.
    """
    problems = check(options)
    if problems:
        raise OptionError(problems)
    lines = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        text = "" if value is True else f"={quote(str(value))}"
        lines.append(f"#SBATCH --{spelling(name)}{text}")
    return lines


def quote(value: str) -> str:
    """`value` as sbatch reads it back from an `#SBATCH` line.

    sbatch knows both quotes and the backslash, which it takes as an escape also inside quotes; `#` starts a comment
    outside them. Nothing is expanded, so `$(…)` and backticks are plain letters.

    Raises:
        ValueError: the value has control characters or is too long.
    """
    rule = _unquotable(value)
    if rule:
        raise ValueError(f"{value[:80]!r} {rule}")
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def spelling(name: str) -> str:
    """An option as sbatch spells it: `mail_type` and `--mail-type` are `mail-type`."""
    return name.removeprefix("--").replace("_", "-")


def literal_path(path: str) -> str:
    """`path` for --output and the like, where sbatch and srun would take `%` for a pattern."""
    return path.replace("%", "%%")


def batch_options(
    *,
    job_name: str,
    output: str,
    nodes: int,
    comment: str | None = None,
    chdir: str | None = None,
    signal_lead_s: int = 300,
    requeue: bool = True,
    export: Sequence[str] = BASIC_VARIABLES,
    resources: Mapping[str, Value] | None = None,
    extra: Mapping[str, Value] | None = None,
) -> dict[str, Value]:
    """The options of one of our jobs: one task a node, logs that survive a requeue, a warning before the time limit.

    `output` is a pattern (`literal_path` for what is none). `export` are names of variables that leave the submitting
    shell. `resources` are sbatch's options by name; those in `extra` come last and win.
    """
    options: dict[str, Value] = {
        "job-name": job_name,
        "comment": comment,
        "output": output,
        "open-mode": "append",
        "chdir": chdir,
        "nodes": nodes,
        "ntasks-per-node": 1,
        "signal": f"B:USR1@{signal_lead_s}",
        "requeue" if requeue else "no-requeue": True,
        "export": ",".join(export) or "NONE",
    }
    for more in (resources or {}, extra or {}):
        for name, value in more.items():
            options.pop(spelling(name), None)
            options[spelling(name)] = value
    return options


def _rule_broken(option: str, value: object) -> str | None:
    if not _OPTION.fullmatch(option):
        return "has no name of an sbatch option: small letters, digits and dashes, the long form"
    if option in _REFUSED:
        return f"cannot be set: {_REFUSED[option]}"
    if value is None or isinstance(value, bool | int):
        return None
    if not isinstance(value, str):
        return f"has to be text, a number or true, not {type(value).__name__}"
    if option == "export" and not all(_VARIABLE.fullmatch(name) for name in value.split(",")):
        return "takes names of variables alone: values would be kept by Slurm for others to read"
    if not value:
        return "is empty; leave the option out, or give true for a flag"
    return _unquotable(value)


def _unquotable(value: str) -> str | None:
    control = next((letter for letter in value if ord(letter) < 32 or ord(letter) == 127), None)
    if control is not None:
        return f"has the control character {control!r}, which no #SBATCH line can hold"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "is not valid unicode"
    if size > MAX_VALUE_BYTES:
        return f"has {size} bytes; sbatch takes {MAX_VALUE_BYTES} safely"
    return None
