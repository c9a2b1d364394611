"""Muster's plugins for Hydra: a launcher that hands over each point of a sweep, a sweeper that writes nothing, a path.

Hydra loads this file in every Hydra application of an environment, so it imports nothing of Muster and does nothing
where Muster has not asked for it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class MusterLauncher(Launcher):
    """Composes each point and gives it, with Hydra's part, to the task function; starts nothing, makes no folder."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        returns = []
        for overrides in job_overrides:
            point = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            done = JobReturn(overrides=overrides, cfg=point, status=JobStatus.COMPLETED)
            done.return_value = self.task_function(point)
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
