"""Muster's plugins for Hydra: a launcher that hands over each point of a sweep, a sweeper that writes nothing, a path.

Hydra loads this file in every Hydra application of an environment, so it imports nothing of Muster and does nothing
where Muster has not asked for it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SweepPoint(NamedTuple):  # no dataclass: Hydra executes this file before it is in sys.modules
    """One point: its overrides, what its choices of groups compose, and the values to be set on a copy of that.

    `base` is the same object for all points with the same choices.
    """

    overrides: list[str]
    base: DictConfig
    values: list[Override]


class MusterLauncher(Launcher):
    """Gives each point, a `SweepPoint`, to the task function; starts nothing, makes no folder.

    Composing takes tens of milliseconds, so it is done once for each choice of groups.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        loader: Any = self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        parse = cache(lambda text: parser.parse_override(text))
        bases: dict[tuple[str, ...], DictConfig] = {}
        returns = []
        for overrides in job_overrides:
            parsed = [parse(text) for text in overrides]
            is_group = [loader.repository.group_exists(override.key_or_group) for override in parsed]
            choices = tuple(text for text, group in zip(overrides, is_group, strict=True) if group)
            if choices not in bases:
                bases[choices] = loader.load_sweep_config(self.config, list(choices))
            values = [override for override, group in zip(parsed, is_group, strict=True) if not group]
            done = JobReturn(overrides=overrides, cfg=bases[choices], status=JobStatus.COMPLETED)
            done.return_value = self.task_function(SweepPoint(list(overrides), bases[choices], values))
            returns.append(done)
        return returns


class MusterSweeper(BasicSweeper):
    """The product of all choices, as Hydra's own sweeper makes it, without its `multirun.yaml`."""

    def __init__(self, max_batch_size: int | None = None, params: Any = None) -> None:
        super().__init__(max_batch_size=max_batch_size, params=params)

    def sweep(self, arguments: list[str]) -> Any:
        assert self.hydra_context is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        batches = self.split_arguments(parser.parse_overrides(arguments), None)
        return [self.launcher.launch(batch, initial_job_idx=0) for batch in batches]


class MusterSearchPath(SearchPathPlugin):
    """Puts the site's, the person's and the given folder before Muster's own, the last one first."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        layers = sys.modules.get("launcher.compose.layers")
        before = "main"
        for name, folder in getattr(layers, "active_folders", list)():
            search_path.prepend(name, f"file://{folder}", SearchPathQuery(provider=before))
            before = name


_store = ConfigStore.instance()
_store.store(group="hydra/launcher", name="muster", node={"_target_": "hydra_plugins.muster.MusterLauncher"})
_store.store(group="hydra/sweeper", name="muster", node={"_target_": "hydra_plugins.muster.MusterSweeper"})
