"""How many parameters a run trains, by formula, before anything is loaded."""

from __future__ import annotations

import re

from conf.adapters import peft_type
from conf.schema import MethodConfig, Quantization, RunConfig, TaskName
from launcher.plan.parts import Matrix, Parts

ALL_LINEAR = "all-linear"
_COUNTED_LORA = frozenset(
    {"peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "use_dora", "use_rslora", "bias"}
)
_COUNTED_PROMPT = frozenset({"peft_type", "num_virtual_tokens", "prompt_tuning_init", "prompt_tuning_init_text"})
_DEFAULT_RANK = 8


def trainable_parameters(config: RunConfig, parts: Parts, width: int | None) -> int | None:
    """Parameters that are trained of the model in `parts`; None where the method is not counted by formula.

    Args:
        width: hidden size of the model.
    """
    method = config.method
    if method.freeze or method.unfreeze or (method.peft and method.freeze_layers):
        return None
    if not method.peft:
        return _unfrozen(parts, method.freeze_layers)
    kind = peft_type(method.peft)
    head = parts.head if config.task.name is TaskName.seq_cls else 0
    if kind == "LORA" and method.peft.keys() <= _COUNTED_LORA and method.peft.get("bias", "none") == "none":
        adapter = _lora(method, parts)
        return None if adapter is None else adapter + head
    if kind == "PROMPT_TUNING" and method.peft.keys() <= _COUNTED_PROMPT and width and not head:
        sides = 2 if config.task.name is TaskName.seq2seq_lm else 1
        return sides * width * int(method.peft.get("num_virtual_tokens") or 0) or None
    return None


def quantized_parameters(config: RunConfig, parts: Parts | None, parameters: int | None) -> int:
    """Parameters that are kept in 4 or 8 bits: the matrices; where they are not known, all as the nearest guess."""
    if config.method.quantization is Quantization.none:
        return 0
    if parts is None or parts.matrices is None:
        return parameters or 0
    return sum(matrix.inputs * matrix.outputs for matrix in parts.matrices)


def _unfrozen(parts: Parts, frozen_layers: int) -> int | None:
    if frozen_layers <= 0:
        return parts.parameters
    if any(frozen_layers > len(stack) for stack in parts.stacks):
        return None
    return parts.parameters - parts.embeddings - sum(sum(stack[:frozen_layers]) for stack in parts.stacks)


def _lora(method: MethodConfig, parts: Parts) -> int | None:
    """Of each matrix that is changed r × (inputs + outputs); DoRA has the length of each output beside."""
    targets = method.peft.get("target_modules")
    if parts.matrices is None or targets is None:
        return None
    rank = int(method.peft.get("r") or _DEFAULT_RANK)
    chosen = [matrix for matrix in parts.matrices if _is_target(matrix, targets)]
    dora = sum(matrix.outputs for matrix in chosen) if method.peft.get("use_dora") else 0
    return sum(rank * (matrix.inputs + matrix.outputs) for matrix in chosen) + dora or None


def _is_target(matrix: Matrix, targets: object) -> bool:
    """As PEFT chooses: a text is a pattern for the whole name, a list has names or their ends."""
    if isinstance(targets, str):
        return targets == ALL_LINEAR or re.fullmatch(targets, matrix.name) is not None
    names = targets if isinstance(targets, list | tuple) else []
    return any(matrix.name == name or matrix.name.endswith(f".{name}") for name in names)
