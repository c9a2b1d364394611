"""The task of a run."""

from __future__ import annotations

from typing import Any

from conf.record import Plan
from train.data.prepared import Prepared
from train.model.model import accepts_logits_to_keep
from train.tasks.causal_lm import CausalLanguageModelling
from train.tasks.task import Task


def make_task(plan: Plan, prepared: Prepared, model: Any) -> Task:
    """The task of a plan on its loaded model (before it is sharded)."""
    packed = plan.packing != "none"
    return CausalLanguageModelling(prepared.pad_id, packed, accepts_logits_to_keep(model))
