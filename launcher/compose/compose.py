"""From overrides and files to a `RunConfig`. This module and `hydra_main` are the only ones that know Hydra.

`compose` reports every problem of the command line and of every file used at once.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conf.choice import AUTO_KEYS
from conf.schema import RunConfig
from launcher.compose.files_check import FileReport, check_file
from launcher.compose.keys import GROUPS
from launcher.compose.layers import FOLDER, PACKAGE, PERSON, SITE, Layer, Layers, activate, find_layers, package_folder
from launcher.compose.overrides_check import Checked, check_overrides
from launcher.compose.values import SECRET_NAME
from launcher.plan.content import flatten, plain
from launcher.problems import ConfigurationError, Problem

PARALLEL = "parallel"


@dataclass(frozen=True)
class Request:
    """Checked overrides and the layers they are composed over; `given` are the keys that they and a site's or a
    person's files set."""

    overrides: list[str]
    layers: Layers
    given: frozenset[str] = frozenset()


def compose(overrides: list[str], config_dir: str | None = None) -> RunConfig:
    """The configuration that the overrides and all layers give.

    Raises:
        ConfigurationError: with every problem of the command line and of each file used.
    """
    request = checked_request(overrides, config_dir)
    return with_given_kept(to_config(composed_of(request)), request.given)


def with_given_kept(config: RunConfig, given: frozenset[str]) -> RunConfig:
    """Of the keys that `parallel=auto` may choose those that nobody has given: neither here nor, by a value that is not
    the default's, in an experiment. `cluster.nodes=auto` chooses them as well, unless a sharding was chosen."""
    follows = config.cluster.nodes == 0 and PARALLEL not in given
    wanted = config.parallel.auto or (AUTO_KEYS if follows else ())
    if not wanted:
        return config
    values, defaults = flatten(plain(config)), flatten(plain(RunConfig()))
    free = [key for key in wanted if key not in given and values.get(key) == defaults.get(key)]
    return replace(config, parallel=replace(config.parallel, auto=free))


def composed_of(request: Request) -> Any:
    """What Hydra composes of checked overrides.

    Raises:
        ConfigurationError: in Hydra's words.
    """
    prepare_hydra(request.layers)
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(package_folder()), job_name="muster", version_base="1.3"):
            return hydra_compose("config", overrides=request.overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError([_hydra_problem(error)]) from error


def to_config(composed: Any) -> RunConfig:
    """The typed configuration of a composed one.

    Raises:
        ConfigurationError: a required key has no value, or an interpolation cannot be resolved.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        missing = sorted(OmegaConf.missing_keys(composed))  # it resolves interpolations as well
        if missing:
            raise ConfigurationError([Problem(key, "", "has to be given", f"{key}=…") for key in missing])
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise ConfigurationError([_hydra_problem(error)]) from error
    assert isinstance(config, RunConfig)
    return config


def to_yaml(config: RunConfig) -> str:
    """The configuration as YAML, in the schema's order."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.structured(config))


def checked_request(words: list[str], config_dir: str | None = None, sweep: bool = False) -> Request:
    """Check the overrides and every file they use, before Hydra sees them.

    Raises:
        ConfigurationError: with all problems.
    """
    layers, problems = find_layers(config_dir)
    checked = check_overrides(words, layers, sweep)
    problems += checked.problems
    locked, values = _check_value_files(layers, problems)
    reports = list(_check_group_files(layers, checked))
    for _, report in reports:
        problems += report.problems
    problems += _lock_problems(locked, checked, [*values, *reports], layers)
    if problems:
        raise ConfigurationError(problems)
    files = {key for _, report in (*values, *reports) for key in report.keys}
    groups = {*checked.choices, *(group for _, report in reports for group, _ in report.defaults)}
    return Request(checked.overrides, layers, frozenset({*checked.keys, *files, *groups}))


def _check_value_files(layers: Layers, problems: list[Problem]) -> tuple[list[str], list[tuple[Layer, FileReport]]]:
    """Check `site.yaml` and `defaults.yaml` of each layer; returns the site's locks and what the files set."""
    locked: list[str] = []
    reports = []
    for layer in layers.layers:
        path = layer.values_file
        if layer.name != PACKAGE and (layer.folder / "config.yaml").is_file():
            where = str(layer.folder / "config.yaml")
            problems.append(
                Problem(where, "", f"would hide Muster's own root; put values into {path}, groups into folders")
            )
        if path is None or not path.is_file():
            continue
        report = check_file(path, "", layers)
        problems += report.problems
        if layer.name == SITE:
            locked += report.locked
        elif report.locked:
            problems.append(Problem(f"{path}: locked", "", "only the site's site.yaml locks keys"))
        reports.append((layer, report))
    return locked, reports


def _check_group_files(layers: Layers, checked: Checked) -> Iterator[tuple[Layer, FileReport]]:
    """Check every file outside Muster's own folder that the choices lead to."""
    root = check_file(package_folder() / "config.yaml", "", layers)
    choices = {group: [option] for group, option in root.defaults} | checked.choices
    waiting = [(group, option) for group, options in choices.items() for option in options]
    seen = set()
    while waiting:
        group, option = waiting.pop(0)
        found = layers.find(group, option)
        if found is None or found[1] in seen:
            continue
        layer, path = found
        seen.add(path)
        if layer.name == PACKAGE and "\ndefaults:" not in path.read_text(encoding="utf-8"):
            continue  # Muster's own files are checked by a test; only what they lead to matters here.
        report = check_file(path, group, layers)
        waiting += [(g, o) for g, o in report.defaults if g == group or g not in checked.choices]
        if layer.name != PACKAGE:
            yield layer, report


def _lock_problems(
    locked: list[str], checked: Checked, reports: list[tuple[Layer, FileReport]], layers: Layers
) -> Iterator[Problem]:
    """What the command line or a person's files set although the site has locked it."""

    def lock_of(key: str) -> str | None:
        return next(
            (lock for lock in locked if f"{key}.".startswith(f"{lock}.") or f"{lock}.".startswith(f"{key}.")), None
        )

    rule = "is locked by the site's site.yaml"
    for key, value in checked.keys.items():
        if lock_of(key):
            yield Problem(key, value, rule)
    for group, options in checked.choices.items():
        if group in locked:
            yield Problem(group, ",".join(options), rule)
    for layer, report in reports:
        if layer.name in (PERSON, FOLDER):
            for key, line in report.keys.items():
                if lock_of(key):
                    yield Problem(f"{layer.folder}: {key}", "", f"(line {line}) {rule}")
    site = layers.named(SITE)
    for layer in layers.layers if site and locked else ():
        if layer.name in (PERSON, FOLDER):
            for group in GROUPS:
                for path in (layer.folder / group).glob("*.yaml"):
                    hidden = site.folder / group / path.name if site else path
                    if hidden.is_file() and any(lock.split(".")[0] == group for lock in locked):
                        yield Problem(
                            str(path), "", f"would hide the site's {hidden}, which sets keys the site has locked"
                        )


def prepare_hydra(layers: Layers) -> None:
    """Register the schema, the values of the layers and the plugins with Hydra."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    activate(layers)
    _find_plugins()
    OmegaConf.register_new_resolver("oc.env", _variable, replace=True)
    store = ConfigStore.instance()
    if "schema.yaml" not in store.repo:
        store.store(name="schema", node=RunConfig)
    values: dict[str, list[Any]] = {"site_values": [], "person_values": []}
    for layer in layers.layers:
        if layer.values_file is not None and layer.values_file.is_file():
            content = OmegaConf.create(dict(OmegaConf.load(layer.values_file)))
            content.pop("locked", None)
            values["site_values" if layer.name == SITE else "person_values"].append(content)
    for name, contents in values.items():
        store.store(name=name, node=OmegaConf.merge({}, *contents))


def _variable(name: str, *default: str | None) -> str | None:
    """`${oc.env:NAME,default}` for a configuration, whose values lie in run folders: not for secrets."""
    from omegaconf.resolvers import oc

    if SECRET_NAME.search(name):
        raise ValueError(f"{name} would write a secret into the run folder; secrets are read where they are used")
    return oc.env(name, *default)


def _find_plugins() -> None:
    """Let Hydra find Muster's plugins first beside this file, installed or not; a wheel has them in their place."""
    folder = Path(__file__).parents[1] / "hydra_plugins"
    if not folder.is_dir():
        return
    try:
        plugins = importlib.import_module("hydra_plugins")
    except ImportError:
        plugins = types.ModuleType("hydra_plugins")
        plugins.__path__ = []
        sys.modules["hydra_plugins"] = plugins
    plugins.__path__ = [str(folder), *(entry for entry in plugins.__path__ if entry != str(folder))]


def _hydra_problem(error: Exception) -> Problem:
    """What Hydra or OmegaConf says, without its page of context."""
    reason = error.__cause__ if error.__cause__ is not None else error
    text = str(reason).strip().splitlines() or [type(reason).__name__]
    key = getattr(reason, "full_key", None) or ""
    return Problem(str(key), "", text[0])
