"""What transformers and PEFT know, as tables for those who must not import them.

`python -m train.libraries > conf/libraries.json` writes them, with the versions they were read from; a test compares
the file with the installed libraries.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from importlib import metadata
from typing import Any


def tables() -> dict[str, Any]:
    """Model types by the tasks they have a class for, and the keys of the libraries' configurations.

    `causal_lm` has no model types that read both ways (those of masked language modelling), although transformers can
    turn some of them into decoders.
    """
    from transformers import BitsAndBytesConfig, GenerationConfig
    from transformers.models.auto import modeling_auto as auto

    causal = {*auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    masked = {*auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES}
    pairs = {*auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES}
    return {
        "versions": {name: metadata.version(name) for name in ("transformers", "peft")},
        "causal_lm": sorted(causal - masked - pairs),
        "masked_lm": sorted(masked - pairs),
        "seq2seq_lm": sorted(pairs),
        "seq_cls": sorted(auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
        "generation": sorted(name for name in vars(GenerationConfig()) if not name.startswith("_")),
        "bitsandbytes": sorted({*inspect.signature(BitsAndBytesConfig.__init__).parameters} - {"self", "kwargs"}),
        "peft": peft_keys(),
    }


def peft_keys() -> dict[str, list[str]]:
    """The keys of each of PEFT's methods by its `peft_type`, without those that are not a person's to give."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    own = {
        "peft_type",
        "auto_mapping",
        "peft_version",
        "task_type",
        "inference_mode",
        "base_model_name_or_path",
        "revision",
    }
    return {
        kind.value: sorted(field.name for field in dataclasses.fields(made) if field.init and field.name not in own)
        for kind, made in sorted(PEFT_TYPE_TO_CONFIG_MAPPING.items(), key=lambda pair: pair[0].value)
    }


def encode_tables(found: dict[str, Any]) -> str:
    """The tables as JSON, one list a line."""
    lines = []
    for name, value in found.items():
        if isinstance(value, dict):
            inner = ",\n".join(f"    {json.dumps(key)}: {json.dumps(keys)}" for key, keys in value.items())
            lines.append(f"  {json.dumps(name)}: {{\n{inner}\n  }}")
        else:
            lines.append(f"  {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    sys.stdout.write(encode_tables(tables()))
