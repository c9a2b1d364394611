"""How the ranks of a node are started: `fork` after importing once, or `exec` of a fresh interpreter for each.

Fork needs a parent that has done no tensor work, has not touched a GPU and runs no pool of threads: one operation on
two threads before the fork was enough to hang the ranks. So the parent imports and nothing else, and on GPUs a probe
child has to compute first.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
import time
import traceback
import zipimport
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from conf.layout import RunFolder
from conf.record import Device, Plan
from train.node.imports import kept
from train.node.process import Entry, run_rank

HEAVY_MODULES = ("torch", "torch._dynamo", "deepspeed", "transformers", "train.rank")
"""`torch._dynamo` comes with the first optimizer, and takes as long as torch itself."""
TRAIN, EXPORT = "train", "export"
PROBE_S = 120.0
RUN_CHECKOUT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from train.__main__ import main; main()"


@dataclass(frozen=True)
class Program:
    """What the ranks of a run do: as a function to fork, and as an argument vector to run.

    `purpose` is TRAIN or EXPORT; `modules` are imported once before forking.
    """

    purpose: str
    entry: Entry
    argv: list[str]
    modules: tuple[str, ...] = HEAVY_MODULES


@dataclass(frozen=True)
class Start:
    """`fork` or `exec`, and why."""

    mode: str
    reason: str


def own_argv(verb: str, run: Path) -> list[str]:
    """The argument vector that runs a verb of this very code in a new interpreter: from its zip, or from its folder."""
    loader = globals().get("__loader__")
    if isinstance(loader, zipimport.zipimporter):
        return [sys.executable, "-I", loader.archive, verb, str(run)]
    return [sys.executable, "-I", "-c", RUN_CHECKOUT, str(Path(__file__).parents[2]), verb, str(run)]


def set_environment(environ: MutableMapping[str, str], plan: Plan, scratch: Path) -> None:
    """What has to be set before torch and DeepSpeed are imported, here and in every rank."""
    environ.setdefault("OMP_NUM_THREADS", str(plan.topology.threads_per_rank))
    environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's pool of threads does not survive a fork
    environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # asks the driver without opening the device, which would spoil fork
    environ["TOKENIZERS_PARALLELISM"] = "false"
    environ.setdefault("MALLOC_ARENA_MAX", "1")
    if plan.topology.device is Device.cpu:
        environ.setdefault("DS_ACCELERATOR", "cpu")
        # Where it is not given, DeepSpeed starts `numactl` several times a step.
        environ.setdefault("LOCAL_SIZE", str(plan.topology.ranks_per_node))
    else:
        # Memory is given back at once; a step on CPUs wants it again.
        environ.setdefault("MALLOC_MMAP_THRESHOLD_", "262144")
    for name, folder in {"TORCH_EXTENSIONS_DIR": "extensions", "TRITON_CACHE_DIR": "triton"}.items():
        environ.setdefault(name, str(scratch / folder))


def preload(plan: Plan, modules: Sequence[str]) -> None:
    """Import, once for all ranks of the node, what they need; without a fork torch alone, for the agent.

    Raises:
        ImportError: one of them is missing.
    """
    with kept():
        import torch

        torch.set_num_threads(1)
        if plan.topology.start != "fork":
            return
        for name in modules:
            importlib.import_module(name)
        if "transformers" in modules:
            _import_model_module(plan.model_type)
        if plan.config.method.peft and plan.topology.device is Device.cpu:
            # Seconds in every rank otherwise. With it comes bitsandbytes, which on a GPU node would spoil the fork.
            importlib.import_module("peft")


def _import_model_module(model_type: str) -> None:
    """Import the model's module where transformers has one; code from a hub is left to the ranks."""
    from transformers.models.auto.configuration_auto import model_type_to_module_name

    folder = model_type_to_module_name(model_type)
    name = f"transformers.models.{folder}.modeling_{folder}"
    if importlib.util.find_spec(f"transformers.models.{folder}") and importlib.util.find_spec(name):
        importlib.import_module(name)


def choose_start(plan: Plan) -> Start:
    """Fork where the plan wants it and this process can; else exec, with the reason. Call after `preload`."""
    if plan.topology.start != "fork":
        return Start("exec", "planned")
    if _cuda_is_initialized():
        return Start("exec", "an imported module has initialised CUDA, which does not survive a fork")
    if plan.topology.device is Device.gpu and not _probe(_compute_on_gpu):
        return Start("exec", "a forked probe could not compute on the GPU")
    return Start("fork", "planned")


def make_entrypoint(start: Start, program: Program, folder: RunFolder, attempt: int) -> Callable[[], None] | list[str]:
    """What torchelastic starts: a function that runs the program as a rank of this process, or an argument vector."""
    if start.mode == "exec":
        return program.argv
    agent_pid = os.getpid()
    threads = int(os.environ["OMP_NUM_THREADS"])

    def rank() -> None:
        import torch

        torch.set_num_threads(threads)
        run_rank(program.entry, folder, attempt, agent_pid)

    return rank


def _cuda_is_initialized() -> bool:
    from torch import cuda

    asked: Callable[[], bool] = cuda.is_initialized
    return asked()


def _compute_on_gpu() -> None:
    import torch

    if float(torch.ones(8, device="cuda").sum()) != 8.0:
        raise RuntimeError("the GPU cannot add")


def _probe(work: Callable[[], None], timeout_s: float = PROBE_S) -> bool:
    """Whether a forked child can do `work` in time."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            work()
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False
