"""YAML files of a site or a person against the schema: typos, wrong types, words that YAML turned into something else.

The files are read as YAML nodes, so that every problem has its line and the text as it was written. Muster's own files
are held to the same rules by a test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from launcher.compose.keys import GROUPS, find_key, meant_by, section_paths
from launcher.compose.layers import Layers
from launcher.compose.values import value_problem
from launcher.problems import Problem, nearest

PACKAGE_HEADER = re.compile(r"^#\s*@package\s+(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class FileReport:
    """What one file says: problems, the options of other groups it chooses, the keys it sets with their lines."""

    problems: list[Problem] = field(default_factory=list)
    defaults: list[tuple[str, str]] = field(default_factory=list)
    keys: dict[str, int] = field(default_factory=dict)
    locked: list[str] = field(default_factory=list)


@cache
def _loader() -> Any:
    """OmegaConf's own loader, so that a scalar is resolved here exactly as it will be in the composition."""
    from omegaconf._utils import get_yaml_loader

    return get_yaml_loader()


def check_file(path: Path, group: str, layers: Layers) -> FileReport:
    """Check one file of `group`; an empty group stands for a file that sets keys of any section."""
    try:
        text = path.read_text(encoding="utf-8")
        loader = _loader()(text)
        root = loader.get_single_node()
    except (OSError, UnicodeDecodeError) as error:
        return FileReport([Problem(str(path), "", f"cannot be read: {error}")])
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        return FileReport([Problem(where, "", f"is not valid YAML: {getattr(error, 'problem', None) or error}")])
    report = FileReport()
    if root is None:
        return report
    if not isinstance(root, yaml.MappingNode):
        report.problems.append(Problem(f"{path}:1", "", "has to be a mapping of keys to values"))
        return report
    header = PACKAGE_HEADER.search(text)
    package = header.group(1) if header else "_group_"
    if group == "experiment" and package != "_global_":
        report.problems.append(Problem(f"{path}:1", "", "has to start with the line `# @package _global_`"))
    prefix = "" if package == "_global_" or group == "experiment" else group
    _Walk(path, group, layers, loader, report).mapping(root, prefix, top=True)
    return report


@dataclass
class _Walk:
    """One file being walked; everything found goes into `report`."""

    path: Path
    group: str
    layers: Layers
    loader: Any
    report: FileReport

    def mapping(self, node: yaml.MappingNode, prefix: str, top: bool = False) -> None:
        seen: set[str] = set()
        for name_node, value_node in node.value:
            name = str(name_node.value)
            key = f"{prefix}.{name}" if prefix else name
            if name in seen:
                self.problem(name_node, key, "", "is given twice in this mapping")
            seen.add(name)
            if name == "_target_":
                self.problem(name_node, key, "", "names code to run, which a configuration of Muster never does")
            elif top and name == "defaults":
                self.defaults(value_node)
            elif top and name == "locked" and not self.group:
                self.locked(value_node)
            elif top and name == "hydra" and not prefix:
                self.problem(name_node, key, "", "belongs to Hydra; Muster sets it")
            else:
                self.entry(name_node, value_node, key)

    def entry(self, name_node: yaml.Node, value_node: yaml.Node, key: str) -> None:
        if key in section_paths():
            if isinstance(value_node, yaml.MappingNode):
                self.mapping(value_node, key)
            else:
                self.problem(name_node, key, _text(value_node), "is a section; it needs keys below it")
            return
        owner = find_key(key)
        if owner is None:
            self.problem(name_node, key, _text(value_node), "is not a key of Muster", meant_by(key))
            return
        self.report.keys[key] = name_node.start_mark.line + 1
        if owner.is_open and isinstance(value_node, yaml.MappingNode):
            self.mapping(value_node, key)
            return
        value = self.loader.construct_object(value_node, deep=True)
        text = value_node.value if isinstance(value_node, yaml.ScalarNode) else None
        found = value_problem(owner, key, value, text)
        if found:
            self.problem(name_node, key, found.value, found.rule, found.nearest)
        for inner in _mappings(value_node):
            if any(name.value == "_target_" for name, _ in inner.value):
                self.problem(inner, key, "", "has `_target_`, which names code to run; Muster never does that")

    def defaults(self, node: yaml.Node) -> None:
        entries = self.loader.construct_object(node, deep=True)
        if not isinstance(entries, list):
            self.problem(node, "defaults", "", "has to be a list")
            return
        for entry in entries:
            pairs = list(entry.items()) if isinstance(entry, dict) else [(self.group, entry)]
            for word, option in pairs:
                self.choice(node, str(word), option)

    def choice(self, node: yaml.Node, word: str, option: Any) -> None:
        if option in ("_self_", None):
            return
        group = word.replace("optional ", "").replace("override ", "").split("@")[0].strip().lstrip("/")
        if not isinstance(option, str):
            self.problem(node, "defaults", str(option), "is not the name of an option")
            return
        if option.startswith("/"):
            group, _, option = option.lstrip("/").rpartition("/")
        if group not in GROUPS:
            self.problem(node, f"defaults: {group}", option, "is not a group", nearest(group, GROUPS))
        elif self.layers.find(group, option) is None:
            options = self.layers.options(group)
            self.problem(
                node,
                f"defaults: {group}",
                option,
                f"is not there; there are {', '.join(options)}",
                nearest(option, options),
            )
        else:
            self.report.defaults.append((group, option))

    def locked(self, node: yaml.Node) -> None:
        entries = self.loader.construct_object(node, deep=True)
        for entry in entries if isinstance(entries, list) else [entries]:
            if isinstance(entry, str) and (find_key(entry) or entry in section_paths()):
                self.report.locked.append(entry)
            else:
                self.problem(node, "locked", str(entry), "is neither a key nor a section", meant_by(str(entry)))

    def problem(self, node: yaml.Node, key: str, value: str, rule: str, near: str = "") -> None:
        where = f"{self.path}:{node.start_mark.line + 1}: {key}"
        self.report.problems.append(Problem(where, value, rule, near))


def _text(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from _mappings(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _mappings(value)
