"""The owner of PEFT: a model with an adapter, the adapter's weights and files, and the two made one.

PEFT takes seconds to import and brings bitsandbytes, which touches the GPU: it is imported where it is used.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conf.adapters import has_virtual_tokens, peft_type
from conf.outcome import Cause
from conf.schema import TaskName
from train.methods.quantization import head_modules

WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"
TASK_TYPES = {TaskName.causal_lm: "CAUSAL_LM", TaskName.seq2seq_lm: "SEQ_2_SEQ_LM", TaskName.seq_cls: "SEQ_CLS"}


class AdapterError(Exception):
    """PEFT does not make this adapter of this model."""

    cause = Cause.config


def add_adapter(model: Any, peft: Mapping[str, Any], task: TaskName, seed: int) -> Any:
    """`model` inside PEFT's, its own weights frozen, the adapter's drawn by `seed` and in the model's precision.

    The draw is the same on every rank and for every ZeRO stage.

    Raises:
        AdapterError: PEFT refuses the keys or the model.
    """
    from peft import get_peft_model

    dtype = model.dtype
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        config = _configuration(model, peft, task)
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            # In the model's precision: DeepSpeed keeps fp32 copies of what is trained, and ZeRO-3 shards one type.
            adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise AdapterError(f"method.peft with peft_type={peft_type(peft)}: {error}") from error
    for parameter in adapted.parameters():
        if parameter.requires_grad and parameter.is_floating_point() and parameter.dtype != dtype:
            parameter.data = parameter.data.to(dtype)
    return adapted


def _configuration(model: Any, peft: Mapping[str, Any], task: TaskName) -> Any:
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    keys = {name: value for name, value in peft.items() if name != "peft_type"}
    if task is TaskName.seq_cls and not has_virtual_tokens(peft):
        # The head is new, so that all of it is trained beside the adapter; PEFT by itself knows two names of heads.
        keys["modules_to_save"] = sorted({*head_modules(model), *(keys.get("modules_to_save") or [])})
    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(peft_type(peft))](task_type=TASK_TYPES[task], **keys)


def base_model(model: Any) -> Any:
    """The transformers model itself, with or without an adapter in it."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def added_tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    """What PEFT brought along by name: trained parameters, frozen ones of the adapter and its buffers.

    Everything that is trained and everything whose name the adapter's own name marks; under each of its names, since
    PEFT looks for what layers share (VeRA's projections) under one of them.
    """
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad or ".default" in name or "prompt_encoder" in name:
            yield name, parameter
    for name, buffer in model.named_buffers(remove_duplicate=False):
        if ".default" in name:
            yield name, buffer


def adapter_weights(model: Any, whole: dict[str, Tensor]) -> dict[str, Tensor]:
    """The adapter's weights under the names of PEFT's files, from `added_tensors` made whole.

    Of virtual tokens the caller keeps the parameters themselves whole: PEFT computes what is saved.
    """
    from peft import get_peft_model_state_dict

    found = get_peft_model_state_dict(model, state_dict=whole, save_embedding_layers=False)
    return {name: tensor.detach().to("cpu").contiguous() for name, tensor in found.items()}


def write_adapter_config(model: Any, folder: Path, base: str, revision: str | None) -> None:
    """`adapter_config.json`, for inference on the model at `base`."""
    config = copy.deepcopy(model.peft_config["default"])
    config.inference_mode = True
    config.base_model_name_or_path = base
    config.revision = revision
    config.save_pretrained(folder)


def load_adapter(model: nn.Module, folder: Path) -> Any:
    """The adapter in `folder` on its base model, for inference."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=False).eval()


def base_of_adapter(folder: Path) -> str | None:
    """The model that the adapter in `folder` belongs to; None where there is no adapter."""
    path = folder / CONFIG_NAME
    if not path.is_file():
        return None
    return str(json.loads(path.read_bytes())["base_model_name_or_path"])


def merged(model: Any) -> Any:
    """The base model with the adapter in its weights.

    Raises:
        AdapterError: the method has no such form.
    """
    merge = getattr(model.base_model, "merge_and_unload", None)
    try:
        if merge is None:
            raise NotImplementedError("it adds something beside the weights")
        return merge()
    except (NotImplementedError, ValueError, TypeError, AttributeError) as error:
        raise AdapterError(f"{model.peft_config['default'].peft_type.value} does not merge: {error}") from error
