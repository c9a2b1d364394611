"""Overrides of a command line against schema and groups: all problems, and the overrides as Hydra takes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_origin

from conf.choice import NODES
from launcher.compose.keys import GROUPS, OLD_NAMES, SECTIONS, all_keys, find_key, meant_by, section_paths
from launcher.compose.layers import Layers
from launcher.compose.values import value_problem
from launcher.problems import Problem, nearest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

QUOTE = '\\"'
"""A quote that reaches Hydra through a shell."""

SWEEP = ("-m", "--multirun")
"""Flags after which keys may have several values."""

_CODE = re.compile(r"\b_target_\b")
"""Hydra's key for code to run, not `max_target_length`."""

_OPTIONS = re.compile(r"[\w.-]+(,[\w.-]+)*")
"""One name of an option, or several."""


@dataclass
class Checked:
    """Overrides that Hydra can take, the options they choose, the keys they set, and what is wrong."""

    overrides: list[str] = field(default_factory=list)
    choices: dict[str, list[str]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def check_overrides(words: list[str], layers: Layers, sweep: bool = False) -> Checked:
    """Check each override alone; `sweep` allows several values (`key=1,2`)."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    checked, parser = Checked(), OverridesParser.create()
    sweep = sweep or any(word in SWEEP for word in words)  # where it is no flag, that alone is what is wrong
    for given in words:
        word = as_named(_with_number(given), layers)
        if word.startswith("-"):
            checked.problems.append(Problem(word, "", "is not a flag of this verb", _key_of_flag(word)))
            continue
        try:
            override = parser.parse_overrides([word])[0]
        except HydraException as error:
            checked.problems.append(_syntax_problem(word, error))
            continue
        problems = list(_problems(override, layers, sweep, checked))
        checked.problems += problems
        if not problems:
            checked.overrides.append(_as_hydra_takes_it(override))
    return checked


def _with_number(word: str) -> str:
    """`cluster.nodes=1,2,auto` with 0 for `auto`."""
    key, equals, value = word.partition("=")
    if key.lstrip("+") != NODES:
        return word
    return key + equals + ",".join("0" if one.strip() == "auto" else one for one in value.split(","))


def as_named(word: str, layers: Layers) -> str:
    """`word` with the options of a group spelled as their files are: `model=Llama3_8B` is `model=llama3-8b`."""
    key, equals, value = word.partition("=")
    if key not in GROUPS or not equals or not _OPTIONS.fullmatch(value):
        return word
    return f"{key}={','.join(_as_file(key, option, layers) for option in value.split(','))}"


def _as_file(group: str, option: str, layers: Layers) -> str:
    if layers.find(group, option) is not None:
        return option
    same = [one for one in layers.options(group) if _letters(one) == _letters(option)]
    return same[0] if len(same) == 1 else option


def _letters(option: str) -> str:
    """Letters and digits alone, which is what people remember of a name."""
    return re.sub(r"[^a-z0-9]", "", option.lower())


def _key_of_flag(word: str) -> str:
    """The key that a flag is spelled like: `run_root=…` for `--run-root`."""
    name = word.lstrip("-").partition("=")[0].replace("-", "_")
    if name in GROUPS or name in all_keys():
        return f"{name}=…"
    near = meant_by(name) if len(name) > 1 else ""
    return near if not near or "=" in near else f"{near.split(', ')[0]}=…"


def _syntax_problem(word: str, error: Exception) -> Problem:
    key, equals, value = word.partition("=")
    if not equals:
        close = nearest(word, GROUPS)
        return Problem(word, "", "is not an override; write key=value or group=option", f"{close}=…" if close else "")
    reason = str(error).splitlines()[0].rstrip()
    if value.lstrip().startswith("{") and ("'" in value or '"' in value):
        bare = value.replace("'", "").replace('"', "")
        reason = f"{reason}; keys of a mapping go without quotes: '{key}={bare}'"
    elif any(sign in value for sign in "'\"{}[](),$#\\ :=") and not reason.startswith("Lexer"):
        reason = f"{reason}; quote the value for Hydra as well as for the shell: '{key}=\"{value}\"'"
    return Problem(key, value, f"cannot be read: {reason}")


def _problems(override: Override, layers: Layers, sweep: bool, checked: Checked) -> Iterator[Problem]:
    key = override.key_or_group
    text = (override.input_line or "").partition("=")[2]
    if key.split(".")[0].split("/")[0] == "hydra":
        if key != "hydra.verbose":
            yield Problem(
                key, text, "belongs to Hydra; Muster sets it, so that nothing is written beside the run folder"
            )
        return
    if _CODE.search(text) or _CODE.search(key):
        yield Problem(key, text, "names code to run, which a configuration of Muster never does")
        return
    if override.is_sweep_override() and not sweep:
        yield Problem(
            key,
            text,
            "has several values; a sweep needs the flag -m, one text with commas needs quotes",
            f"{key}={QUOTE}{text}{QUOTE}",
        )
        return
    if override.package is not None:
        yield Problem(f"{key}@{override.package}", text, "moves a group to another place, which Muster has no use for")
        return
    if key in GROUPS:
        yield from _group_problems(override, key, text, layers, checked)
        return
    if override.is_delete():
        owner = find_key(key)
        if owner is None or owner.path == key:
            yield Problem(f"~{key}", "", "cannot be taken away; give it another value", "" if owner else meant_by(key))
        return
    checked.keys[key] = text
    if not override.is_sweep_override():
        yield from _value_problems(key, override.value(), text)
    elif find_key(key) is None:
        yield from _value_problems(key, None, text)
    elif override.is_discrete_sweep():
        for value in override.sweep_iterator(transformer=type(override)._convert_value):
            yield from _value_problems(key, value, None)


def _group_problems(override: Override, group: str, text: str, layers: Layers, checked: Checked) -> Iterator[Problem]:
    if override.is_delete():
        if group != "experiment":
            yield Problem(
                f"~{group}", "", "cannot be taken away; choose another option", ", ".join(layers.options(group))
            )
        return
    if override.is_sweep_override():
        options = [] if "glob(" in text else [str(option) for option in override.sweep_iterator()]
    else:
        value = override.value()
        options = [] if value is None and group == "experiment" else [value if isinstance(value, str) else text]
    for option in options:
        if layers.find(group, option) is None:
            yield _option_problem(group, option, layers)
        else:
            checked.choices.setdefault(group, []).append(option)


def _option_problem(group: str, option: str, layers: Layers) -> Problem:
    options = layers.options(group)
    rule = f"is not an option; there are {', '.join(options)}"
    if group == "model" and ("/" in option or option.startswith(".")):
        return Problem(group, option, rule, f"model=hf model.model_name_or_path={option}")
    return Problem(group, option, rule, nearest(option, options))


def _value_problems(key: str, value: Any, text: str | None) -> Iterator[Problem]:
    if key in section_paths() and isinstance(value, dict):
        for name, below in value.items():
            yield from _value_problems(f"{key}.{name}", below, None)
        return
    owner = find_key(key)
    if owner is None:
        shown = text if text is not None else str(value)
        if key in section_paths():
            yield Problem(key, shown, "is a section; set the keys below it", ", ".join(list(_below(key))[:3]))
        else:
            rule = "is not a key of Muster"
            if key.rsplit(".", 1)[-1] in OLD_NAMES and key not in SECTIONS:
                rule += "; here it is spelled differently"
            yield Problem(key, shown, rule, meant_by(key))
        return
    problem = value_problem(owner, key, value, text, QUOTE)
    if problem:
        yield problem


def _below(section: str) -> Iterator[str]:
    return (path for path in all_keys() if path.startswith(f"{section}."))


def _as_hydra_takes_it(override: Override) -> str:
    """Without `+` on keys that exist; with `++` on open mappings and a person's own keys in them."""
    line = (override.input_line or "").lstrip("+")
    key = override.key_or_group
    owner = find_key(key) if key not in GROUPS else None
    is_mapping = owner is not None and get_origin(owner.hint) is dict
    if override.is_delete() or owner is None or (owner.path == key and not is_mapping):
        return "experiment=null" if line == "~experiment" else line
    return f"++{line}"
