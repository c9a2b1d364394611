"""The head of a classifier: what the model has to know of the labels, and weights that no file has.

New weights are drawn for each module from a seed and its name, on every rank and whole, so that they are the same at
every world size and ZeRO stage.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from conf.schema import ProblemType
from train.data.prepared import Labels
from train.engine import whole_for_writing

MOST_NAMED = 6


def arguments(labels: Labels | None) -> dict[str, Any]:
    """Arguments of `from_pretrained`: a head for the labels, in place of another one."""
    if labels is None:
        return {}
    return {
        "id2label": dict(enumerate(labels.names)),
        "label2id": {name: number for number, name in enumerate(labels.names)},
        "problem_type": labels.problem_type.value,
        "ignore_mismatched_sizes": True,
    }


def renamed(model_class: Any, source: str, given: dict[str, Any], labels: Labels | None) -> dict[str, Any]:
    """An argument of `from_pretrained` that keeps weights of another shape out of the model under ZeRO-3.

    There transformers raises on them, whatever `ignore_mismatched_sizes` says; under another name they are only unused.
    """
    if labels is None or not Path(source).is_dir():
        return {}
    from transformers import AutoConfig

    known = {name: given[name] for name in ("trust_remote_code",) if name in given}
    config = AutoConfig.from_pretrained(source, id2label=dict(enumerate(labels.names)), **known)
    with torch.device("meta"):
        wanted = model_class.from_config(config, **known).state_dict()
    names = [
        name
        for file in sorted(Path(source).glob("*.safetensors"))
        for name, shape in _shapes(file).items()
        if name in wanted and tuple(wanted[name].shape) != shape
    ]
    return {"key_mapping": {f"^{re.escape(name)}$": f"replaced_{name}" for name in names}} if names else {}


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes in a safetensors file by name."""
    from safetensors import safe_open

    with safe_open(str(file), "pt") as content:
        return {name: tuple(content.get_slice(name).get_shape()) for name in content.keys()}  # noqa: SIM118


def new_names(found: dict[str, Any]) -> list[str]:
    """Weights that no file has, or in another shape, by what transformers says of loading."""
    mismatched = [key if isinstance(key, str) else key[0] for key in found.get("mismatched_keys", ())]
    return sorted({*found.get("missing_keys", ()), *mismatched})


def draw(model: Any, names: list[str], seed: int) -> None:
    """Draw the weights in `names` anew, as the model's architecture initialises them; under ZeRO-3 a collective."""
    owners: dict[str, list[str]] = {}
    for name in names:
        owner, _, last = name.rpartition(".")
        owners.setdefault(owner, []).append(last)
    for owner, own in sorted(owners.items()):
        module: nn.Module = model.get_submodule(owner)
        parameters = dict(module.named_parameters(recurse=False))
        # transformers initialises what does not have this mark.
        for each, parameter in parameters.items():
            parameter._is_hf_initialized = each not in own  # type: ignore[attr-defined]
        with whole_for_writing(parameters.values()), torch.random.fork_rng(devices=_devices(parameters)):
            torch.manual_seed(int.from_bytes(hashlib.sha256(f"{seed}:{owner}".encode()).digest()[:4], "big"))
            with torch.no_grad():
                model._init_weights(module)


def in_words(names: list[str], labels: Labels) -> str:
    """What is new, for a person."""
    shown = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    kind = "numbers" if labels.problem_type is ProblemType.regression else "labels"
    return f"a head for {len(labels.names)} {kind}; weights that the model does not have, drawn anew: {shown}"


def _devices(parameters: dict[str, nn.Parameter]) -> list[torch.device]:
    return list({parameter.device for parameter in parameters.values() if parameter.device.type == "cuda"})
