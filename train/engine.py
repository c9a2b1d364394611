"""The owner of DeepSpeed: nothing else in `train` imports it.

An `Engine` is a model that trains: backward, step, gradient norm, its states on disk, its weights gathered. What the
loss is, how many micro batches a step has and when the learning rate changes is the caller's to say, so the
configuration's `gradient_accumulation_steps` is 1 and DeepSpeed's own idea of a batch means nothing here.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import deepspeed
import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam
from torch import Tensor, nn
from torch.optim import Optimizer

from train import universal
from train.checkpoint.engine_files import EngineFiles, Take
from train.model.parameters import l2_norm


def _spare_inductor() -> None:
    """Import DeepSpeed's Muon without compiling it.

    `deepspeed.initialize` asks whether the optimizer is a Muon. That module wraps its functions in `torch.compile`,
    which loads all of torch's inductor: seconds in every rank, for an optimizer that Muster does not use.
    """
    compile_function = torch.compile
    torch.compile = lambda function: function  # type: ignore[assignment]
    try:
        importlib.import_module("deepspeed.runtime.zero.muon.muon_optimizer")
    except ImportError:
        return  # a DeepSpeed without it
    finally:
        torch.compile = compile_function


_spare_inductor()


def start_distributed(backend: str, timeout: timedelta) -> None:
    """Join the default process group that torch's environment variables describe, the same one for DeepSpeed.

    DeepSpeed's shared-memory all-reduce is switched off: it would need a compiler, and losses are bit-equal without. It
    is the one op that is looked up in this table, which DeepSpeed would otherwise fill by probing a compiler.
    """
    deepspeed.ops.__compatible_ops__ = {}
    # torch 2.13 says this at each of DeepSpeed's collectives, several times a step.
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False, timeout=timeout)


class Engine:
    """A model under DeepSpeed ZeRO on this rank.

    Attributes:
        module: the Hugging Face model; under ZeRO-3 its parameters are empty outside `gathered`.
        optimizer: the client's optimizer, whose parameter groups carry the learning rate; None to evaluate alone.
        rank, world_size, device: this rank's place.
        zero_stage: 0 to 3.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer | None, configuration: dict[str, Any], device: torch.device
    ):
        """Shard `model` and `optimizer` as `configuration` (DeepSpeed's JSON) says; without an optimizer the engine
        only evaluates. A collective.
        """
        self._peaks = [] if optimizer is None else [float(group["lr"]) for group in optimizer.param_groups]
        wrapped, _, _, _ = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            config=copy.deepcopy(configuration) if optimizer else without_optimizer(configuration),
            dist_init_required=False,
        )
        self._deepspeed: Any = wrapped
        self.module: Any = wrapped.module
        self.optimizer = optimizer
        self.device = device
        self.rank = torch.distributed.get_rank()
        self.world_size = torch.distributed.get_world_size()
        self.zero_stage = int(wrapped.zero_optimization_stage())
        self._norm: Tensor | float | None = None
        self._refused: bool | None = None
        self._own_norm = self.zero_stage == 0 and not (wrapped.bfloat16_enabled() or wrapped.fp16_enabled())
        self._files = EngineFiles()
        if optimizer is not None:
            self._leave_out_bad_updates(optimizer)
            wrapped.checkpoint_engine.save = self._files.save
            wrapped.checkpoint_engine.load = self._files.load
            wrapped.checkpoint_engine.makedirs = self._files.makedirs
        self._has_frozen = any(not parameter.requires_grad for parameter in self.module.parameters())
        if self._has_frozen:
            wrapped.module_state_dict = self._trained_state
        # DeepSpeed copies conversion scripts, which Muster never runs, into each checkpoint.
        wrapped._copy_recovery_script = lambda save_path: None

    def __call__(self, **inputs: Tensor) -> Any:
        """The model's own forward pass, with ZeRO's gathering around it."""
        return self._deepspeed(**inputs)

    def train(self) -> None:
        self._deepspeed.train()

    def eval(self) -> None:
        self._deepspeed.eval()

    def backward(self, loss: Tensor, boundary: bool) -> None:
        """Add the gradients of `loss`; on the last micro batch of a step (`boundary`) they are reduced over ranks.

        Gradients are averaged over ranks, so a loss that shall be summed over them is multiplied by `world_size`.
        Every rank has to call this equally often.
        """
        self._deepspeed.set_gradient_accumulation_boundary(boundary)
        self._deepspeed.backward(loss, scale_wrt_gas=False)
        if not boundary:
            self._deepspeed.step()

    def rehearse(self, loss: Tensor) -> None:
        """A backward pass that changes nothing: the gradients of `loss` times zero, left to be added to."""
        self._deepspeed.set_gradient_accumulation_boundary(False)
        self._deepspeed.backward(loss * 0.0, scale_wrt_gas=False)

    def set_lr(self, rate: Callable[[float], float]) -> None:
        """The learning rate of the next step, of each parameter group from its peak: the one it was made with."""
        for group, peak in zip(self._deepspeed.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = rate(peak)

    def step(self) -> bool:
        """Clip and update, after the `backward` whose `boundary` was true.

        False, on all ranks, where the gradient was not finite and nothing was changed.
        """
        self._refused = None
        if self._own_norm:
            self._norm = l2_norm(p.grad for p in self.module.parameters() if p.grad is not None)
        self._deepspeed.step()
        if not self._own_norm:
            self._norm = self._deepspeed.get_global_grad_norm()
        return not self._is_left_out()

    def _is_left_out(self) -> bool:
        return bool(self._refused or getattr(self._deepspeed.optimizer, "overflow", False))

    def _leave_out_bad_updates(self, optimizer: Optimizer) -> None:
        """Let `optimizer` update only by finite gradients.

        DeepSpeed 0.19 leaves such a step out under ZeRO-3 and in fp32, and in bf16 under ZeRO-1 and 2 makes it unless
        it may look through all gradients once more. The norm, the same on all ranks, is known before the update; where
        gradients are clipped DeepSpeed waits for it as well.
        """
        update = optimizer.step

        def guarded(*arguments: Any, **named: Any) -> Any:
            if self._refused is None:
                norm = self._norm if self._own_norm else getattr(self._deepspeed.optimizer, "_global_grad_norm", None)
                self._refused = norm is not None and not 0.0 <= float(norm) < math.inf
            return None if self._refused else update(*arguments, **named)

        optimizer.step = guarded  # type: ignore[method-assign]

    def grad_norm(self) -> float:
        """L2 norm of the last step's gradients before clipping, over all ranks; waits for the device.

        nan where no step was made; inf where DeepSpeed left a step out because a gradient was not finite.
        """
        return float("nan") if self._norm is None else float(self._norm)

    @contextlib.contextmanager
    def gathered(self, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
        """Within it `parameters` are whole on every rank, for reading; a collective in ZeRO-3, else nothing."""
        if self.zero_stage < 3:
            yield
            return
        with deepspeed.zero.GatheredParameters(list(parameters)):
            yield

    def save_states(self, folder: Path, client_state: dict[str, Any], take: Take) -> None:
        """Give trained weights and optimizer states, for files in `folder`, to every rank's `take`; a collective.

        Frozen weights are not in it: whoever reads it has loaded them already.

        `client_state` comes back from `load_states`.

        Raises:
            Exception: what `take` raised on this rank, after all ranks went through the collectives.
        """
        self._files.begin(take)
        self._deepspeed.save_checkpoint(
            str(folder.parent),
            tag=folder.name,
            client_state=client_state,
            save_latest=False,
            exclude_frozen_parameters=self._has_frozen,
        )
        self._files.end()

    def saved_bytes(self) -> int:
        """About how many bytes `save_states` hands over on this rank; after the first step."""
        if self.optimizer is None:
            return 0
        states: int = sum(
            value.nbytes
            for state in self.optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        )
        if self.zero_stage > 0:
            states += states // 2  # the fp32 weights beside Adam's two moments
        elif self.rank > 0:
            return 0
        if self.rank > 0 or self.zero_stage == 3:
            return states
        weights: int = sum(one.nbytes for one in self.module.parameters() if one.requires_grad)
        return states + weights

    def load_states(self, folder: Path, readable: frozenset[Path]) -> dict[str, Any]:
        """Read what `save_states` wrote; returns its client state; a collective. Under ZeRO the world size is the same.

        Only the files in `readable` are opened. Call it before the first step: ZeRO-3 cannot load into an engine that
        has already saved.

        Raises:
            FileNotFoundError: DeepSpeed found no checkpoint in `folder`.
        """
        self._files.readable = readable
        return self._load(folder)

    def load_universal(self, folder: Path, readable: frozenset[Path]) -> dict[str, Any]:
        """Read what `universal.convert` wrote, whatever the ranks that had saved it; otherwise as `load_states`.

        Raises:
            FileNotFoundError: DeepSpeed found no checkpoint in `folder`.
        """
        if self.optimizer is None:
            raise ValueError("an engine that only evaluates loads no universal checkpoint")
        self._files.readable = readable
        with universal.loading(self._deepspeed, self.optimizer):
            client_state = self._load(folder)
            any_rank = min(path for path in readable if path.name.endswith("model_states.pt"))
            universal.load_buffers(self.module, self._files.load(str(any_rank), "cpu")["module"])
        return client_state

    def _load(self, folder: Path) -> dict[str, Any]:
        path, client_state = self._deepspeed.load_checkpoint(
            str(folder.parent),
            tag=folder.name,
            load_lr_scheduler_states=False,
            load_module_strict=not self._has_frozen,
        )
        if path is None:
            raise FileNotFoundError(f"DeepSpeed finds no checkpoint in {folder}")
        return cast("dict[str, Any]", client_state)

    def _trained_state(self, **_: Any) -> dict[str, Any]:
        """What changes in training: DeepSpeed's own selection keeps tied frozen weights and bitsandbytes' scales."""
        module: nn.Module = self.module
        frozen = {id(parameter) for parameter in module.parameters() if not parameter.requires_grad}
        own = {name for name, _ in module.named_buffers(remove_duplicate=False)}
        own |= {name for name, one in module.named_parameters(remove_duplicate=False) if id(one) not in frozen}
        return {name: tensor for name, tensor in module.state_dict().items() if name in own}

    def close(self) -> None:
        """Take DeepSpeed's hooks off the model."""
        self._deepspeed.destroy()


@contextlib.contextmanager
def whole_for_writing(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Within it parameters that were loaded sharded are whole; what the first rank writes into them is kept."""
    sharded = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    with deepspeed.zero.GatheredParameters(sharded, modifier_rank=0) if sharded else contextlib.nullcontext():
        yield


def without_optimizer(configuration: dict[str, Any]) -> dict[str, Any]:
    """DeepSpeed's JSON for forward passes alone: stages 1 and 2 shard what is not there, and DeepSpeed refuses them."""
    plain = copy.deepcopy(configuration)
    zero = plain.get("zero_optimization", {})
    if zero.get("stage", 0) < 3:
        plain["zero_optimization"] = {"stage": 0}
    return plain


def cpu_adam(groups: list[dict[str, Any]], **arguments: Any) -> tuple[Optimizer | None, str]:
    """DeepSpeed's AdamW for offloaded states, compiled on first use; or None and the reason why it cannot be built."""
    beside_python = str(Path(sys.executable).parent)  # where pip puts ninja, also of an environment nobody activated
    if beside_python not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join(filter(None, (os.environ.get("PATH"), beside_python)))
    missing = [tool for tool in ("g++", "ninja") if shutil.which(tool) is None]
    if missing:
        return None, f"no {' and no '.join(missing)} to build it with"
    try:
        return DeepSpeedCPUAdam(groups, adamw_mode=True, **arguments), ""
    except Exception as error:  # whatever the compiler, its flags or the loader raise
        return None, f"building it failed: {str(error).strip().splitlines()[-1] if str(error).strip() else error!r}"


@contextlib.contextmanager
def sharded_for_forward(model: nn.Module, configuration: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """Forward passes alone on a model that was loaded sharded (`HfDeepSpeedConfig`, stage 3); a collective."""
    wrapped, _, _, _ = deepspeed.initialize(model=model, config=copy.deepcopy(configuration), dist_init_required=False)
    try:
        wrapped.eval()
        yield wrapped
    finally:
        wrapped.destroy()
