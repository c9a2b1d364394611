"""Models that are not there, cannot be trained, or contradict themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from conf.architectures import POSITIONS_AFTER_PADDING, RELATIVE_POSITIONS
from conf.schema import ModelConfig, ModelInit, RunConfig, TaskName
from launcher.check.libraries import needs_own_code
from launcher.facts.facts import Facts
from launcher.facts.model import TRAIN_TOKENIZER
from launcher.problems import Problem

COMMIT = re.compile(r"[0-9a-f]{40}")

OWNED_ARGUMENTS = {
    "attn_implementation": "model.attn_implementation",
    "trust_remote_code": "model.trust_remote_code",
    "revision": "model.revision",
    "torch_dtype": "train.precision",
    "dtype": "train.precision",
    "device_map": "parallel=…, which places the weights",
    "tp_plan": "parallel=…, which places the weights",
    "low_cpu_mem_usage": "parallel=…, which loads the weights sharded",
    "config": "model.shape",
    "state_dict": "model.model_name_or_path",
    "quantization_config": "method.quantization and method.quantization_kwargs",
    "load_in_4bit": "method=qlora",
    "load_in_8bit": "method=lora_8bit",
    "num_labels": "task.labels",
    "problem_type": "task.problem_type",
}
"""Arguments of `from_pretrained` that Muster gives itself → the key that says it."""


def model_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """What is wrong with the model, its tokenizer and its own numbers."""
    model, found = config.model, facts.model
    path = "model.model_name_or_path"
    if not model.model_name_or_path and model.init is ModelInit.pretrained:
        rule = "is empty: a folder or a hub name is needed, or model=tiny for a trial"
        yield Problem(path, "", rule, f"{path}=…")
    elif _is_drawn_over(model):
        kind = model.shape["model_type"]
        rule = f"would not be trained: model=tiny and its like draw a new {kind} over it (init=random and a shape)"
        yield Problem(path, model.model_name_or_path, rule, f"model=hf, {path}=''")
    elif found.error:
        yield Problem(path, model.model_name_or_path, f"cannot be used: {found.error}")
    else:
        yield from _architecture_problems(found.config, bool(found.unresolved))
        is_folder = bool(found.folder) and not found.commit
        if model.init is ModelInit.pretrained and is_folder and found.weights_bytes is None:
            rule = "has no *.safetensors; convert the weights, or draw new ones with model.init=random"
            yield Problem(path, model.model_name_or_path, rule)
        yield from _length_problems(config, found.config)
        yield from _code_problems(config, facts, is_folder)
    yield from _tokenizer_problems(config, facts)
    for argument, key in OWNED_ARGUMENTS.items():
        if argument in model.kwargs:
            yield Problem(f"model.kwargs.{argument}", str(model.kwargs[argument]), "is given by Muster", key)


def _is_drawn_over(model: ModelConfig) -> bool:
    """Whether a model is named of which nothing is taken: neither weights, nor shape, nor tokenizer."""
    named, own_tokenizer = bool(model.model_name_or_path), model.tokenizer_name_or_path is None
    return named and model.init is ModelInit.random and "model_type" in model.shape and not own_tokenizer


def _architecture_problems(shape: Mapping[str, Any], unresolved: bool) -> Iterator[Problem]:
    kind = shape.get("model_type")
    if not kind:
        if not unresolved:
            yield Problem("model.shape.model_type", "", "is missing: config.json has to name the architecture", "llama")
        return
    if shape.get("quantization_config"):
        rule = "is there: quantized weights cannot be trained with method=full; take the original model"
        yield Problem("model.shape.quantization_config", "", rule)
    hidden, heads = shape.get("hidden_size"), shape.get("num_attention_heads")
    pairs = shape.get("num_key_value_heads")
    if isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
        if not shape.get("head_dim") and hidden % heads:
            rule = f"is not a multiple of num_attention_heads={heads}"
            yield Problem(
                "model.shape.hidden_size",
                str(hidden),
                rule,
                f"{hidden // heads * heads}, {-(-hidden // heads) * heads}",
            )
        if isinstance(pairs, int) and (pairs < 1 or heads % pairs):
            rule = f"does not divide num_attention_heads={heads}"
            divisors = [number for number in range(1, heads + 1) if heads % number == 0]
            close = sorted(sorted(divisors, key=lambda number: abs(number - pairs))[:2])
            yield Problem("model.shape.num_key_value_heads", str(pairs), rule, ", ".join(map(str, close)))


def _length_problems(config: RunConfig, shape: Mapping[str, Any]) -> Iterator[Problem]:
    positions = longest_text(shape)
    if positions is None:
        return
    limits = {"max_length": config.data.max_length}
    if config.task.name is TaskName.seq2seq_lm:
        limits["max_target_length"] = config.data.max_target_length
    for key, length in limits.items():
        if length > positions > 1:
            rule = f"is more than the {positions} positions the model was made for (max_position_embeddings)"
            yield Problem(f"data.{key}", str(length), rule, str(positions))


def longest_text(shape: Mapping[str, Any]) -> int | None:
    """Tokens of the longest text a model can read; None where its config.json does not limit them."""
    kind = str(shape.get("model_type"))
    positions = shape.get("max_position_embeddings") or shape.get("n_positions")
    if not isinstance(positions, int) or kind in RELATIVE_POSITIONS:
        return None
    return positions - int(shape.get("pad_token_id") or 1) - 1 if kind in POSITIONS_AFTER_PADDING else positions


def _code_problems(config: RunConfig, facts: Facts, is_folder: bool) -> Iterator[Problem]:
    model = config.model
    if model.trust_remote_code and not is_folder and not COMMIT.fullmatch(model.revision or ""):
        rule = (
            "runs other people's code, so model.revision has to be a full commit (40 hex digits), not a name that moves"
        )
        near = f"model.revision={facts.model.commit}" if facts.model.commit else ""
        yield Problem("model.trust_remote_code", "true", rule, near)
    if needs_own_code(facts.model.config, config.task.name) and not model.trust_remote_code:
        rule = "comes with Python code of its own; read it, then allow it with model.revision=<full commit>"
        yield Problem("model.model_name_or_path", model.model_name_or_path, rule, "model.trust_remote_code=true")


def _tokenizer_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    model, given = config.model, config.model.tokenizer_name_or_path
    key = "model.tokenizer_name_or_path"
    if given == TRAIN_TOKENIZER and model.init is ModelInit.pretrained:
        rule = "makes a new vocabulary, which pretrained weights do not know"
        yield Problem(key, "train", rule, "null (the model's own), model.init=random")
    elif facts.model.tokenizer_error and not facts.model.error:
        near = "train" if model.init is ModelInit.random else ""
        yield Problem(key, given or "null", f"cannot be used: {facts.model.tokenizer_error}", near)
