"""The keys of adapters and of quantised weights, against the tables of PEFT and transformers."""

from __future__ import annotations

from collections.abc import Iterator

from conf.adapters import peft_type
from conf.schema import MethodConfig, Quantization, RunConfig
from launcher.check.libraries import bitsandbytes_keys, peft_methods, unknown_keys
from launcher.problems import Problem, nearest

PEFT_OWNED = {
    "task_type": "task.name",
    "base_model_name_or_path": "model.model_name_or_path",
    "revision": "model.revision",
    "inference_mode": "nothing: adapters are trained here, and exported for inference",
}
"""Keys of every PEFT method that Muster gives itself → the key that says it."""

QUANTIZATION_OWNED = {
    "load_in_4bit": "method.quantization=nf4",
    "load_in_8bit": "method.quantization=int8",
    "bnb_4bit_quant_type": "method.quantization=nf4, method.quantization=fp4",
    "bnb_4bit_compute_dtype": "train.precision",
    "bnb_4bit_quant_storage": "parallel.zero_stage, which asks for a type that it can shard",
}
"""Keys of BitsAndBytesConfig that Muster gives itself → the key that says it."""


def adapter_key_problems(config: RunConfig) -> Iterator[Problem]:
    """Methods and keys that PEFT or bitsandbytes do not know."""
    method = config.method
    if method.peft:
        yield from _peft_problems(method)
    yield from _quantization_problems(method)


def _peft_problems(method: MethodConfig) -> Iterator[Problem]:
    methods, kind = peft_methods(), peft_type(method.peft)
    key = "method.peft.peft_type"
    if not kind or kind == "???":
        yield Problem(key, "", f"is missing; there are {', '.join(methods)}", "LORA")
        return
    if kind not in methods:
        rule = f"is not a method of PEFT; there are {', '.join(methods)}"
        yield Problem(key, str(method.peft["peft_type"]), rule, nearest(kind, methods))
        return
    given = {name: value for name, value in method.peft.items() if name not in {"peft_type", *PEFT_OWNED}}
    yield from unknown_keys("method.peft", given, methods[kind], f"PEFT's {kind}")
    for name, owner in PEFT_OWNED.items():
        if name in method.peft:
            yield Problem(f"method.peft.{name}", str(method.peft[name]), "is given by Muster", owner)


def _quantization_problems(method: MethodConfig) -> Iterator[Problem]:
    given = method.quantization_kwargs
    if given and method.quantization is Quantization.none:
        rule = "says how weights are quantised, and method.quantization=none keeps them whole"
        yield Problem("method.quantization_kwargs", ", ".join(given), rule, "method=qlora, method.quantization=nf4")
    yield from unknown_keys("method.quantization_kwargs", given, bitsandbytes_keys(), "BitsAndBytesConfig")
    for name, owner in QUANTIZATION_OWNED.items():
        if name in given:
            yield Problem(f"method.quantization_kwargs.{name}", str(given[name]), "is given by Muster", owner)
