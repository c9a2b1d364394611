"""What a sweep's own section says: parameters that a file sweeps (`sweep=lr_range`), and who chooses the points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from conf.schema import SweepConfig
from launcher.compose.compose import Request, checked_request, composed_of
from launcher.plan.content import flatten
from launcher.problems import ConfigurationError, Problem


@dataclass(frozen=True)
class Declared:
    """The words of a sweep with those that its file adds, checked, and the keys of its section."""

    words: list[str]
    request: Request
    sweep: SweepConfig


def declared(words: list[str], config_dir: str | None = None) -> Declared:
    """The sweep of a command line.

    Raises:
        ConfigurationError: with every problem of the command line and of each file used.
    """
    from omegaconf import OmegaConf

    request = checked_request(words, config_dir, sweep=True)
    composed = composed_of(Request(_single(request.overrides), request.layers))
    sweep: SweepConfig = OmegaConf.to_object(composed.sweep)  # type: ignore[assignment] # the schema's own class
    given = {word.lstrip("+").partition("=")[0] for word in words}
    added = [word for key, word in _parameters(sweep.parameters).items() if key not in given]
    if added:
        words = [*words, *added]
        request = checked_request(words, config_dir, sweep=True)
    return Declared(words, request, sweep)


def require_no_sweep(config: Any) -> None:
    """Refuse a sweep's own file where one run was asked for.

    Raises:
        ConfigurationError: it sweeps, or leaves the points to Optuna.
    """
    sweep: SweepConfig = config.sweep
    if sweep.parameters or sweep.sampler is not None:
        key, value = ("sweep.parameters", "") if sweep.parameters else ("sweep.sampler", str(sweep.sampler))
        raise ConfigurationError([Problem(key, value, "is a sweep's, which needs the flag -m")])


def _single(overrides: list[str]) -> list[str]:
    """The overrides that hold for every point."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    return [word for word in overrides if not parser.parse_override(word).is_sweep_override()]


def _parameters(given: dict[str, Any]) -> dict[str, str]:
    """Key → override, of names with dots and of mappings below each other."""
    return {key: f"{key}={_text(value)}" for key, value in flatten(given).items() if key}


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    return str(value)
