"""The points of a sweep, as configurations.

Hydra composes each distinct choice of groups once (`hydra_plugins.muster`); here the values of a point are set on a
copy, by Hydra's own rules, and only the sections that they touch are converted again.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

from conf.schema import RunConfig
from launcher.compose.compose import prepare_hydra, to_config, with_given_kept
from launcher.compose.declared import declared
from launcher.compose.hydra_main import run_hydra
from launcher.problems import ConfigurationError, Problem


@dataclass(frozen=True)
class Point:
    """One point of a sweep: its own overrides, all words that compose it, and the configuration they give."""

    overrides: tuple[str, ...]
    words: tuple[str, ...]
    config: RunConfig


def points(words: list[str], config_dir: str | None = None) -> list[Point]:
    """Every point of a sweep (`optim.learning_rate=1e-5,2e-5 train.seed=1,2`), composed.

    Raises:
        ConfigurationError: with every problem of the command line and of each file used.
    """
    request = declared(words, config_dir).request
    prepare_hydra(request.layers)
    found: list[Any] = []
    code = run_hydra(["-m", *request.overrides], found.append)
    if code:
        raise ConfigurationError([Problem("-m", "", "the sweep cannot be composed; Hydra's words are above")])
    common = set.intersection(*(set(point.overrides) for point in found))
    bases = {id(point.base): point.base for point in found}
    chosen = {number: Base(composed) for number, composed in bases.items()}
    return [
        Point(
            tuple(word for word in point.overrides if word not in common),
            tuple(point.overrides),
            with_given_kept(chosen[id(point.base)].with_values(point.values), request.given),
        )
        for point in found
    ]


class Base:
    """What a choice of groups composes, to set values on."""

    def __init__(self, composed: Any):
        from omegaconf import OmegaConf, open_dict

        with open_dict(composed):
            composed.pop("hydra", None)
        self._composed = composed
        self._work = copy.deepcopy(composed)
        self._is_whole = "${" not in OmegaConf.to_yaml(composed) and not OmegaConf.missing_keys(composed)
        self._config = to_config(composed) if self._is_whole else None

    def with_values(self, values: list[Any]) -> RunConfig:
        """The configuration with Hydra's value overrides applied in their order.

        Raises:
            ConfigurationError: a required key has no value, or a value does not fit.
        """
        if self._config is None or any("${" in str(override.input_line) for override in values):
            return to_config(_applied(copy.deepcopy(self._composed), values))
        touched = {override.key_or_group.partition(".")[0] for override in values}
        kept = [_Kept(self._work, override.key_or_group) for override in values]
        try:
            return _with_sections(self._config, _applied(self._work, values), touched)
        finally:
            for one in reversed(kept):
                one.put_back()


class _Kept:
    """What a key holds before it is set, to be put back: copying whole sections would take most of a point's time."""

    def __init__(self, composed: Any, key: str):
        from omegaconf import DictConfig

        *path, self._name = key.split(".")
        self._container = composed
        for place, name in enumerate(path):
            below = self._container._get_node(name, validate_access=False)
            if not isinstance(below, DictConfig) or below._is_none():
                self._name = [*path, self._name][place]
                break
            self._container = below
        self._node = copy.deepcopy(self._container._get_node(self._name, validate_access=False))

    def put_back(self) -> None:
        """The key holds again what it held, or is not there again."""
        content = self._container.__dict__["_content"]
        if self._node is None:
            content.pop(self._name, None)
        else:
            self._node._set_parent(self._container)
            content[self._name] = self._node


def _with_sections(config: RunConfig, composed: Any, sections: set[str]) -> RunConfig:
    """`config` with the named sections as they are composed."""
    from omegaconf import OmegaConf

    def converted(value: Any) -> Any:
        return OmegaConf.to_object(value) if OmegaConf.is_config(value) else value

    return dataclasses.replace(config, **{section: converted(composed[section]) for section in sections})


def _applied(composed: Any, values: list[Any]) -> Any:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.errors import HydraException

    try:
        ConfigLoaderImpl._apply_overrides_to_config(values, composed)
    except HydraException as error:
        raise ConfigurationError([Problem("-m", "", str(error).splitlines()[0])]) from error
    return composed
