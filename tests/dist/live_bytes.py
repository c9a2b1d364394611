"""What a real engine holds: bytes of the tensors that live in a rank between steps, with gradients, and in the step.

The engine is the run's own: DeepSpeed's JSON from the plan, the loading, method and optimizer of training.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.record import Layout, Plan
from launcher.compose.compose import compose
from launcher.facts.gather import gather
from launcher.plan.memory.estimate import held_by
from launcher.plan.memory.states import FORWARD, IDLE, STEP, parts_of, total
from launcher.plan.plan import make_plan, resolve_packing, subject_of
from launcher.plan.resolve import resolved
from launcher.plan.topology import make_topology
from tests.dist.harness import join_world
from tests.dist.small_models import write_model
from train.distributed import World

IDS = 16
MOMENTS = ("idle", "backward", "step")

SHAPES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"tied": True},
    "gemma3_text": {"head_dim": 24, "tied": True},
    "phi3": {},
    "gpt_neox": {},
    "olmo2": {},
    "mixtral": {},
    "gpt2": {"n_embd": 160, "n_layer": 4, "n_head": 4, "n_positions": 128, "tied": True},
}
"""Small models, some hundred thousand weights each: `model_type` → what is special about it."""

WIDE = {"hidden_size": 160, "intermediate_size": 320, "num_hidden_layers": 4, "vocab_size": 512}


@dataclass(frozen=True)
class Case:
    """A configuration whose memory is measured."""

    model_type: str
    stage: int
    precision: str = "bf16"
    ranks: int = 2
    offload: str = ""
    method: str = "full"

    @property
    def name(self) -> str:
        offload = f"_offload_{self.offload}" if self.offload else ""
        return f"{self.model_type} zero{self.stage}{offload} {self.precision} {self.method} {self.ranks}"

    def overrides(self, folder: Path) -> list[str]:
        """Muster's own overrides."""
        words = ["model=hf", f"model.model_name_or_path={folder}", "data=demo", f"method={self.method}"]
        words += [f"parallel.zero_stage={self.stage}", f"train.precision={self.precision}"]
        words += [f"cluster.ranks_per_node={self.ranks}", "train.global_batch_size=16"]
        if self.offload:
            words.append("parallel.offload_optimizer=cpu")
        if self.offload == "all":
            words.append("parallel.offload_param=cpu")
        return words


def plan_of(case: Case, folder: Path) -> Plan:
    """The plan of a case around the model in `folder`."""
    config = compose(case.overrides(folder))
    return make_plan(config, gather(config, fetch=False))


def expected(case: Case, folder: Path) -> dict[str, float]:
    """What the plan's formulas say of the moments at which `measured` looks.

    It looks after a backward pass, when stage 2 has given its buckets back, and inside the optimizer's own step, when
    the gradients that were copied to fp32 are gone; there it sees one parameter group, the matrices.
    """
    config = compose(case.overrides(folder))
    facts = gather(config, fetch=False)
    config = resolved(config, facts)
    topology, _ = make_topology(config.cluster, facts)
    packing, _ = resolve_packing(config, str(facts.model.config["model_type"]))
    subject = subject_of(config, facts, topology, packing)
    held = held_by(subject)
    assert held is not None
    parts = parts_of(held, subject.zero, case.ranks)
    after = [part for part in parts if not (case.stage == 2 and part.name == "reduce buckets")]
    # those of all groups lie in one buffer, which stays until the last group: with an adapter there is one group alone
    copied = ("gradients", "flat gradients") if case.method == "lora" else ("flat gradients",)
    gone = {0: (), 3: ("flat gradients",)}.get(case.stage, copied)
    inside = [part for part in parts if part.host or part.name not in gone or IDLE in part.moments]
    return {"idle": total(parts, IDLE), "backward": total(after, FORWARD), "step": total(inside, STEP)}


def mean(ranks: Sequence[dict[str, int]]) -> dict[str, float]:
    """The ranks' mean at each moment."""
    return {moment: sum(found[moment] for found in ranks) / len(ranks) for moment in ranks[0]}


def write_shape(folder: Path, model_type: str) -> Path:
    """The small model of a type, as a folder."""
    changes = dict(SHAPES[model_type])
    return write_model(folder, model_type, tied=changes.pop("tied", False), **{**WIDE, **changes})


def measured(plans: list[Plan]) -> list[dict[str, int]]:
    """In a rank, for each plan: bytes of new tensors at each of `MOMENTS`."""
    world = join_world()
    return [_measure(plan, world) for plan in plans]


def _measure(plan: Plan, world: World) -> dict[str, int]:
    import torch

    from train.engine import Engine
    from train.methods.method import with_method
    from train.model.optimizer import make_optimizer

    before = storages()
    model = with_method(plan, plan.layout, _loaded(plan, plan.layout))
    optimizer, _ = make_optimizer(model, plan.config.optim, plan.config.parallel, world.device, world.all_true)
    engine = Engine(model, optimizer, plan.layout.deepspeed, world.device)
    engine.train()
    found: dict[str, int] = {}
    ids = torch.arange(3, 3 + IDS)[None]

    def note(*_: Any) -> None:
        found["step"] = max(found.get("step", 0), _new(before, storages(engine.module, optimizer)))

    handle: Any = None
    for step in range(2):
        engine.backward(engine(input_ids=ids, labels=ids).loss, boundary=False)
        found["backward"] = _new(before, storages(engine.module, optimizer))
        engine.backward(engine(input_ids=ids, labels=ids).loss, boundary=True)
        if step == 1:
            handle = optimizer.register_step_pre_hook(note)
        engine.step()
    handle.remove()
    found["idle"] = _new(before, storages(engine.module, optimizer))
    engine.close()
    return found


def _loaded(plan: Plan, layout: Layout) -> Any:
    from conf.layout import RunFolder
    from train.model.model import load_model

    return load_model(plan, layout, RunFolder(Path(plan.run_dir)))


def storages(model: Any = None, optimizer: Any = None) -> dict[int, int]:
    """Bytes of every live tensor's memory by its address; gradients too, which Python may not list."""
    import torch

    gc.collect()
    tensors = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor)]
    tensors += [tensor.grad for tensor in tensors if tensor.is_leaf and tensor.grad is not None]
    if model is not None:
        tensors += [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if optimizer is not None:
        tensors += [one for group in optimizer.param_groups for one in group["params"]]
        tensors += [one.grad for group in optimizer.param_groups for one in group["params"] if one.grad is not None]
    memories = [tensor.untyped_storage() for tensor in tensors if tensor.device.type == "cpu"]
    return {memory.data_ptr(): memory.nbytes() for memory in memories if memory.nbytes()}


def _new(before: dict[int, int], after: dict[int, int]) -> int:
    return sum(size for address, size in after.items() if address not in before)
