"""DeepSpeed's universal checkpoint: states that any number of ranks can load, a file for each parameter and state.

With `engine` the owner of DeepSpeed. Its converter cuts the states of each rank into pieces, a parameter each, and
joins the pieces of each parameter. It deals both to a pool of processes through one function, in whose place `deal`
stands: so the run's own ranks can do the work, and nothing forks inside a rank.

Files are mapped, not read: a rank touches of each only what it needs of it.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.utils.serialization
from deepspeed.checkpoint import ds_to_universal
from torch import nn
from torch.optim import Optimizer

Work = Callable[[Any], Any]
Deal = Callable[[Work, Sequence[Any]], list[Any]]
"""Does a work on each of its parts, which are independent of each other; returns what it returned, in order."""

INFO = {"universal_checkpoint_version": 0.4}
"""The converter refuses stages 0 to 2 without it in their client state (`deepspeed/checkpoint/constants.py`)."""


def convert(source: Path, target: Path, deal: Deal) -> None:
    """Write the states in `source`, as `Engine.save_states` left them, into `target` for any number of ranks.

    `target`'s parent is its own: the converter leaves a `latest_universal` there. The pieces lie in `target` until they
    are joined, so for a while it takes twice the room.
    """
    target.mkdir(parents=True)
    arguments = argparse.Namespace(
        input_folder=str(source),
        output_folder=str(target),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=False,
    )
    with _dealt_by(deal), mapped():
        ds_to_universal.main(arguments)


@contextlib.contextmanager
def _dealt_by(deal: Deal) -> Iterator[None]:
    module: Any = ds_to_universal
    dealt = module._do_parallel_work
    module._do_parallel_work = lambda work, parts, workers: deal(partial(_part, work), list(parts))
    module.print = lambda *words: None
    try:
        yield
    finally:
        module._do_parallel_work = dealt
        del module.print


def _part(work: Work, part: Any) -> Any:
    """One part of the converter's work, on whichever rank."""
    module: Any = ds_to_universal
    save = module._save_checkpoint
    module._save_checkpoint = _save
    try:
        with mapped():
            return work(part)
    finally:
        module._save_checkpoint = save


def _save(path: str, content: Any) -> None:
    """Write a file; on a full disk with the error of the file system, where torch says `unexpected pos 704 vs 598`."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


@contextlib.contextmanager
def loading(engine: Any, optimizer: Optimizer) -> Iterator[None]:
    """Within it DeepSpeed's `engine` loads what `convert` wrote.

    ZeRO-3 then gives every parameter group the values of the first (DeepSpeed 0.19: weight decay on norms and biases)
    and all parameters one and the same counter of steps, which runs as often as there are groups. Both are put right.
    """
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    engine._config.load_universal_checkpoint = True
    try:
        with mapped():
            yield
    finally:
        engine._config.load_universal_checkpoint = False
    on_device = any(group.get("fused") or group.get("capturable") for group in settings)
    for group, values in zip(optimizer.param_groups, settings, strict=True):
        group.update(values)
    for parameter, state in optimizer.state.items():
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].clone().to(parameter.device if on_device else "cpu")


def load_buffers(module: nn.Module, states: dict[str, torch.Tensor]) -> None:
    """Put the saved buffers into `module`: DeepSpeed loads parameters alone from a universal checkpoint."""
    for name, buffer in module.named_buffers():
        saved = states.get(name)
        if saved is not None and saved.shape == buffer.shape:
            buffer.copy_(saved)


@contextlib.contextmanager
def mapped() -> Iterator[None]:
    """Within it `torch.load` maps files into memory."""
    with cast("Any", torch.utils.serialization.config).patch("load.mmap", True):
        yield
