"""What a real engine holds: bytes of a rank's tensors between steps, at most in forward and backward, in the step.

The engine is the run's own: DeepSpeed's JSON from the plan, the loading, the method, and the optimizer as on a GPU. Rows
are so short that activations weigh little; what DeepSpeed takes at a time has the proportion to the model that it has
at real sizes, so that buckets and gathered weights are seen as they are there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from conf.record import Layout, Plan
from conf.schema import Offload, ParallelConfig, Precision, RunConfig
from launcher.compose.compose import compose
from launcher.facts.facts import Facts
from launcher.facts.gather import gather
from launcher.plan.memory import live
from launcher.plan.memory.estimate import Subject, activations_by, held_by
from launcher.plan.memory.states import BACKWARD, FORWARD, IDLE, STEP, parts_of, total
from launcher.plan.plan import make_plan, resolve_packing, subject_of
from launcher.plan.resolve import resolved
from launcher.plan.topology import make_topology
from tests.dist.harness import join_world
from tests.dist.small_models import write_model
from train.distributed import World

TOKENS = 4
SETTLE_S = 0.2
"""After it the threads of gloo have let go of what they have reduced."""
MOMENTS = ("idle", "backward", "step")
WIDTH = 256
SIZES = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 4,
    "vocab_size": 1024,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": WIDTH}
T5 = {"d_model": WIDTH, "d_kv": 64, "d_ff": 2 * WIDTH, "num_layers": 3, "num_heads": 4, "feed_forward_proj": "gated-gelu"}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"head_dim": 64, "tied": True},
    "qwen3_moe": {**EXPERTS, "head_dim": 64},
    "mixtral": {**EXPERTS},
    "gemma2": {"head_dim": 64, "tied": True},
    "gemma3_text": {"head_dim": 64, "tied": True},
    "phi": {"num_key_value_heads": 4},
    "gpt2": {"n_embd": WIDTH, "n_layer": 4, "n_head": 4, "n_positions": 128, "tied": True},
    "t5": {**T5, "dropout_rate": 0.0, "decoder_start_token_id": 0, "tied": True},
    "bert": {"num_key_value_heads": 4, "num_labels": 3},
}
"""Small models of some million weights: `model_type` → what is special about it."""

TASKS = {"t5": ("seq2seq_lm", "demo_summaries"), "bert": ("seq_cls", "demo_labels")}
"""`model_type` → task and data; all others continue texts."""
AUTO = {"t5": "AutoModelForSeq2SeqLM", "bert": "AutoModelForSequenceClassification"}

AT_A_TIME = WIDTH * WIDTH
"""Elements of a bucket: the hidden size squared, as Muster writes it for models above its smallest bucket."""

LIVE = 16 * AT_A_TIME
"""Elements of weights that ZeRO-3 may have gathered, a part of the model as 10⁹ are of one with 3 · 10⁹."""


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

    def applied(self, config: RunConfig) -> RunConfig:
        """`config` with this case's stage, offload, precision and ranks."""
        zero = {"reduce_bucket_size": AT_A_TIME, "allgather_bucket_size": AT_A_TIME}
        if self.stage == 3:
            zero |= {"stage3_prefetch_bucket_size": AT_A_TIME * 9 // 10}
            zero |= {"stage3_max_live_parameters": LIVE, "stage3_max_reuse_distance": LIVE}
        parallel = ParallelConfig(
            zero_stage=self.stage,
            offload_optimizer=Offload.cpu if self.offload else Offload.none,
            offload_param=Offload.cpu if self.offload == "all" else Offload.none,
            deepspeed={"zero_optimization": zero},
        )
        return replace(
            config,
            parallel=parallel,
            train=replace(config.train, precision=Precision(self.precision)),
            cluster=replace(config.cluster, ranks_per_node=self.ranks),
        )


@lru_cache
def _given(model_type: str, method: str, folder: Path) -> tuple[RunConfig, Facts]:
    """What the cases of a model and method have in common, composed and gathered once."""
    task, data = TASKS.get(model_type, ("causal_lm", "demo"))
    words = ["model=hf", f"model.model_name_or_path={folder}", f"task={task}", f"data={data}", f"method={method}"]
    words.append("train.global_batch_size=16")
    if method == "lora" and "num_experts" in SHAPES[model_type]:
        words.append("method.peft.target_modules=[q_proj,k_proj,v_proj,o_proj]")
    config = compose(words)
    return config, gather(config, fetch=False)


def plan_of(case: Case, folder: Path) -> Plan:
    """The plan of a case around the model in `folder`."""
    config, facts = _given(case.model_type, case.method, folder)
    return make_plan(case.applied(config), facts)


def subject(case: Case, folder: Path) -> Subject:
    """What the estimate of a case is made of."""
    config, facts = _given(case.model_type, case.method, folder)
    config = resolved(case.applied(config), facts)
    topology, _ = make_topology(config.cluster, facts)
    packing, _ = resolve_packing(config, str(facts.model.config["model_type"]))
    return subject_of(config, facts, topology, packing)


def expected(case: Case, folder: Path) -> dict[str, float]:
    """What the plan's formulas say of each moment, device and host together. On one rank weights on the host are not
    gathered here, where the host is the device."""
    found = subject(case, folder)
    held = held_by(found)
    assert held is not None
    parts = parts_of(held, found.zero, case.ranks)
    train = found.config.train
    work = activations_by(few_tokens(found))
    assert work is not None

    def at(moment: str, activations: float) -> float:
        turn = moment == FORWARD
        gathered = live.gathered(found.shape, held, found.zero, train, case.ranks, turn) if case.ranks > 1 else []
        return total(parts, moment) + sum(term.likely for term in gathered) + activations

    at_most = max(at(FORWARD, work.kept + work.logits), at(BACKWARD, work.peak))
    return {"idle": total(parts, IDLE), "backward": at_most, "step": total(parts, STEP)}


def few_tokens(found: Subject) -> Subject:
    """The same with the one short row that is measured here."""
    data = replace(found.config.data, max_length=TOKENS, max_target_length=TOKENS)
    batch = replace(found.batch, micro_batch_size=1)
    return replace(found, config=replace(found.config, data=data), batch=batch, packing="exact")


def most(ranks: Sequence[dict[str, int]]) -> dict[str, int]:
    """What the rank that holds most holds at each moment."""
    return {moment: max(found[moment] for found in ranks) for moment in ranks[0]}


def write_shape(folder: Path, model_type: str) -> Path:
    """The small model of a type, as a folder."""
    changes = dict(SHAPES[model_type])
    auto = AUTO.get(model_type, "AutoModelForCausalLM")
    return write_model(folder, model_type, tied=changes.pop("tied", False), auto=auto, **{**SIZES, **changes})


def measured(plans: list[Plan]) -> list[dict[str, int]]:
    """In a rank, for each plan: bytes at each of `MOMENTS`."""
    world = join_world()
    return [_measure(plan, world) for plan in plans]


def _measure(plan: Plan, world: World) -> dict[str, int]:
    from tests.dist.peak_bytes import Weighed, begin_afresh, tensors

    begin_afresh()
    weighed = Weighed()
    with weighed:
        engine = _engine(plan, world)
        weighed.adopt(tensors())
        for _ in range(2):  # the first step makes the moments
            weighed.begin()
            _backward(plan, engine, boundary=False)
            _backward(plan, engine, boundary=True)
            backward = weighed.most
            time.sleep(SETTLE_S)
            weighed.begin()
            engine.step()
            step = weighed.most
        weighed.begin()
        idle = weighed.now
    engine.close()
    return {"idle": idle, "backward": backward, "step": step}


def _backward(plan: Plan, engine: Any, boundary: bool) -> None:
    import torch

    ids = torch.arange(3, 3 + TOKENS)[None]
    labels = torch.zeros(1, dtype=torch.long) if plan.config.task.name.value == "seq_cls" else ids
    engine.backward(engine(input_ids=ids, labels=labels).loss, boundary=boundary)


def _engine(plan: Plan, world: World) -> Any:
    """The run's engine; on a GPU the optimizer is torch's fused one, or DeepSpeed's, which need no memory in a step."""
    import torch

    from train.engine import Engine
    from train.methods.method import with_method
    from train.model.optimizer import make_optimizer

    model = with_method(plan, plan.layout, _loaded(plan, plan.layout))
    parallel = replace(plan.config.parallel, offload_optimizer=Offload.none)
    optimizer, _ = make_optimizer(model, plan.config.optim, parallel, torch.device("cuda"), world.all_true)
    engine = Engine(model, optimizer, plan.layout.deepspeed, world.device)
    engine.train()
    return engine


def _loaded(plan: Plan, layout: Layout) -> Any:
    from conf.layout import RunFolder
    from train.model.model import load_model

    return load_model(plan, layout, RunFolder(Path(plan.run_dir)))
