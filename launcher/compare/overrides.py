"""The command line that gives a configuration: every key that is not as Muster has it, in Hydra's grammar. Pure."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from conf.record import Plan
from conf.schema import ClusterKind, RunConfig
from launcher.compose.grammar import written

OF_THE_MACHINE = frozenset(
    {
        "run_root",
        "cluster.python",
        "cluster.slurm_conf",
        "cluster.measurements",
        "cluster.node_ledger",
        "data.cache_dir",
    }
)
"""Where things lie on one machine; another has its own."""


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each key of the schema with its value; lists and mappings whole."""
    for each in dataclasses.fields(config):
        value, path = getattr(config, each.name), f"{prefix}{each.name}"
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def given_keys(config: RunConfig, base: RunConfig | None = None) -> dict[str, Any]:
    """The keys whose values are not those of the schema, or not those of `base`, as plain values."""
    defaults = dict(leaves(RunConfig()))
    composed = dict(leaves(base)) if base is not None else defaults
    found = {key: value for key, value in leaves(config) if value != defaults[key] or value != composed[key]}
    return {key: value.value if isinstance(value, Enum) else value for key, value in found.items()}


def overrides_of(config: RunConfig, base: RunConfig | None = None, name: str | None = None) -> list[str]:
    """The words that compose it, without what belongs to one machine."""
    given, before = given_keys(config, base), dict(leaves(base or RunConfig()))
    kind = "local" if config.cluster.kind is ClusterKind.local else "slurm"
    words = [f"cluster={kind}"]
    for key, value in given.items():
        if key in OF_THE_MACHINE or key == "cluster.kind":
            continue
        if isinstance(value, Mapping):  # a mapping is laid over the one that is there
            words += [f"~{key}.{part}" for part in before[key] if part not in value]
        words.append(f"{key}={written(name if key == 'name' and name else value)}")
    return words


def command_of(plan: Plan, base: RunConfig | None = None, name: str | None = None) -> str:
    """The command, one key a line."""
    verb = "run" if plan.config.cluster.kind is ClusterKind.local else "submit"
    return " \\\n  ".join([f"muster {verb}", *(shlex.quote(word) for word in overrides_of(plan.config, base, name))])
