"""The configuration keys as the schema has them, and the keys people mean when they write another.

Reads `conf.schema` and the table of PEFT's keys: no Hydra.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from conf.schema import RunConfig
from launcher.check.libraries import peft_methods
from launcher.problems import nearest

SECTIONS = tuple(name for name, hint in get_type_hints(RunConfig).items() if dataclasses.is_dataclass(hint))
"""Sections of the configuration; each is also a group of YAML files."""

GROUPS = (*SECTIONS, "experiment")
"""What `group=option` may name."""

OLD_NAMES = {
    "warmup_ratio": "schedule.warmup_steps (a share below 1, or steps)",
    "evaluation_strategy": "train.eval_strategy",
    "group_by_length": "data.packing=exact, which leaves no padding to save",
    "length_column_name": "data.packing=exact, which leaves no padding to save",
    "output_dir": "run_root (and name)",
    "run_name": "name",
    "report_to": "tracking=wandb or tracking=none",
    "bf16": "train.precision=bf16",
    "fp16": "train.precision=fp16",
    "per_gpu_train_batch_size": "train.per_device_train_batch_size",
    "per_gpu_eval_batch_size": "train.per_device_eval_batch_size",
    "per_device_batch_size": "train.per_device_train_batch_size",
    "micro_batch_size": "train.per_device_train_batch_size",
    "train_micro_batch_size_per_gpu": "train.per_device_train_batch_size",
    "batch_size": "train.global_batch_size",
    "train_batch_size": "train.global_batch_size",
    "max_seq_length": "data.max_length",
    "max_seq_len": "data.max_length",
    "model_max_length": "data.max_length",
    "cutoff_len": "data.max_length",
    "block_size": "data.max_length",
    "sequence_len": "data.max_length",
    "lr": "optim.learning_rate",
    "epochs": "train.num_train_epochs",
    "num_epochs": "train.num_train_epochs",
    "gradient_clipping": "optim.max_grad_norm",
    "activation_checkpointing": "train.gradient_checkpointing",
    "deepspeed": "parallel=zero0 … zero3_hpz; raw keys: parallel.deepspeed.<key>",
    "resume_from_checkpoint": "nothing: `muster resume RUN` goes on from the newest checkpoint that verifies",
    "save_strategy": "checkpoint.save_steps (0: only at the end)",
    "train_on_inputs": "data.completion_only_loss (its opposite)",
    "num_nodes": "cluster.nodes",
    "nnodes": "cluster.nodes",
    "num_machines": "cluster.nodes",
    "nproc_per_node": "cluster.ranks_per_node",
    "num_processes": "cluster.ranks_per_node",
    "gpus": "cluster.gpus_per_node",
    "ntasks_per_node": "cluster.ranks_per_node",
    "wandb_project": "tracking.project",
    "wandb_entity": "tracking.entity",
    "model": "model.model_name_or_path",
    "dataset": "data.train_file, or data.dataset_name for a hub data set",
    "dataset_path": "data.train_file",
    "adam_eps": "optim.adam_epsilon",
    "betas": "optim.adam_beta1 and optim.adam_beta2",
}
"""Names of other trainers and of older versions → the key here."""

OF_ADAPTERS = ("method", "peft", "lora", "adapter")
"""Sections in which people look for PEFT's keys."""


@dataclass(frozen=True)
class Key:
    """One key: its full name, its type without `Optional`, whether null is allowed, default and documentation."""

    path: str
    hint: Any
    nullable: bool
    default: Any
    doc: str

    @property
    def is_open(self) -> bool:
        """Whether it is a mapping into which a person writes keys of their own."""
        return get_origin(self.hint) is dict

    @property
    def type_text(self) -> str:
        """The type in words of a YAML file."""
        return _type_text(self.hint) + (" or null" if self.nullable else "")


def _type_text(hint: Any) -> str:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " | ".join(hint.__members__)
    if get_origin(hint) is list:
        return f"list of {_type_text(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return f"mapping to {_type_text(get_args(hint)[1])}"
    return {str: "text", int: "whole number", float: "number", bool: "true | false", Any: "anything"}.get(
        hint, str(hint)
    )


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _walk(section: type, prefix: str) -> Iterator[Key]:
    hints = get_type_hints(section)
    for field in dataclasses.fields(section):
        path, hint = f"{prefix}{field.name}", hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from _walk(hint, f"{path}.")  # type: ignore[arg-type] # a dataclass in a hint is a class
            continue
        nullable = get_origin(hint) in (Union, types.UnionType)
        if nullable:
            hint = next(argument for argument in get_args(hint) if argument is not type(None))
        yield Key(path, hint, nullable, _default_of(field), field.metadata.get("doc", ""))


@cache
def all_keys() -> dict[str, Key]:
    """Every key of the schema by its full name, in the schema's order."""
    return {key.path: key for key in _walk(RunConfig, "")}


def keys(prefix: str = "") -> list[Key]:
    """The keys at or below `prefix`; all of them without one."""
    return [key for path, key in all_keys().items() if not prefix or path == prefix or path.startswith(f"{prefix}.")]


@cache
def section_paths() -> frozenset[str]:
    """Full names of everything that has keys below it: `cluster`, `cluster.container`, …"""
    return frozenset(path.rsplit(".", count)[0] for path in all_keys() for count in range(1, path.count(".") + 1))


def find_key(path: str) -> Key | None:
    """The key that owns `path`: itself, or the open mapping it lies in."""
    found = all_keys().get(path)
    while found is None and "." in path:
        path = path.rsplit(".", 1)[0]
        found = all_keys().get(path)
        if found is not None and not found.is_open:
            return None
    return found


def _of_peft(name: str, *methods: str) -> str:
    """The key of an adapter that scripts with PEFT call `name`, of one of its methods; empty where there is none."""
    known = {key for method in methods for key in peft_methods()[method]}
    found = next((key for key in (name, name.removeprefix("lora_")) if key in known), None)
    return f"method.peft.{found}" if found else ""


def meant_by(path: str) -> str:
    """What a person may have meant by an unknown key, best first; empty where nothing comes near."""
    section, _, last = path.rpartition(".")
    if section in OF_ADAPTERS and (own := _of_peft(last, *peft_methods())):
        return own
    if last in OLD_NAMES:
        return OLD_NAMES[last]
    same_last = [key for key in all_keys() if key.rsplit(".", 1)[-1] == last]
    if same_last:
        return ", ".join(same_last)
    if own := _of_peft(last, "LORA"):
        return own
    in_section = [key for key in all_keys() if key.startswith(f"{section}.")] if section else []
    by_last = {key.rsplit(".", 1)[-1]: key for key in reversed([*in_section, *all_keys()])}
    by_last.update({key.rsplit(".", 1)[-1]: key for key in in_section})
    if not section and nearest(path, GROUPS, 1):
        return f"{nearest(path, GROUPS, 1)}=…"
    close = nearest(last, by_last)
    if close:
        return ", ".join(by_last[name] for name in close.split(", "))
    return nearest(path, [*all_keys(), *GROUPS])
