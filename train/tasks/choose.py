"""The task of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conf.adapters import has_virtual_tokens
from conf.record import Plan
from conf.schema import TaskName
from train.data.class_weights import class_weights
from train.data.prepared import Prepared
from train.generation.generation import Generation
from train.model.model import accepts_logits_to_keep
from train.tasks.causal_lm import CausalLanguageModelling
from train.tasks.seq2seq_lm import SequenceToSequence, shift_of
from train.tasks.seq_cls import SequenceClassification, takes_token_types
from train.tasks.task import Task


def make_task(plan: Plan, prepared: Prepared, model: Any, tokenizer: Path) -> Task:
    """The task of a plan on its loaded model (before it is sharded); `tokenizer` is the run's folder with it."""
    task, pad_id = plan.config.task, prepared.pad_id
    if prepared.labels is not None:
        weights = class_weights(task, prepared.labels, next(iter(prepared.splits.values())).open())
        return SequenceClassification(pad_id, prepared.labels, weights, takes_token_types(model))
    generation = make_generation(plan, model, tokenizer)
    if task.name is TaskName.seq2seq_lm:
        return SequenceToSequence(pad_id, shift_of(model, pad_id), generation, task.metrics)
    packed = plan.packing != "none"
    # Positions are counted without virtual tokens, which only PEFT knows of.
    trims = accepts_logits_to_keep(model) and not has_virtual_tokens(plan.config.method.peft)
    return CausalLanguageModelling(pad_id, packed, trims, generation, task.metrics)


def make_generation(plan: Plan, model: Any, tokenizer: Path) -> Generation | None:
    """How evaluations ask for answers; None where they shall not."""
    task, writes = plan.config.task, plan.config.task.name is TaskName.seq2seq_lm
    if not (writes if task.predict_with_generate is None else task.predict_with_generate):
        return None
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    longest = plan.config.data.max_target_length if writes else None
    return Generation(model, loaded, task.generation, plan.config.train.seed, longest)
