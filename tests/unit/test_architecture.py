"""Architectures that no formula knows: made without memory by the ranks' Python, and remembered."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from conf.schema import TaskName
from launcher.facts.architecture import Workshop, made_shape
from launcher.plan.shapes.known import KNOWN, shape_of
from launcher.plan.shapes.weights import Group

OPT = {
    "model_type": "opt",
    "hidden_size": 64,
    "ffn_dim": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 211,
    "word_embed_proj_dim": 64,
}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 211,
}


def workshop(cache: Path | None, python: str = sys.executable) -> Workshop:
    return Workshop(python, dict(os.environ), "5.0", cache)


def test_an_unknown_architecture_is_made_once_and_remembered(tmp_path: Path) -> None:
    assert "opt" not in KNOWN
    made = made_shape(OPT, TaskName.causal_lm, 2, workshop(tmp_path))
    assert made.error == ""
    assert made.shape is not None
    assert made.shape.stacks == (2,)
    assert made.shape.tied
    assert made.shape.of(Group.embedding) == (211 + 2050) * 64
    names = {weight.name: weight for weight in made.shape.weights}
    assert names["model.decoder.layers.1.fc1.weight"].outputs == 96
    assert names["model.decoder.layers.1.fc1.bias"].layer == 1
    (kept,) = tmp_path.iterdir()
    nowhere = workshop(tmp_path, "/nowhere/python")
    assert made_shape(OPT, TaskName.causal_lm, 2, nowhere) == made
    assert "nowhere" in made_shape({**OPT, "ffn_dim": 97}, TaskName.causal_lm, 2, nowhere).error
    kept.write_text("{}")
    assert made_shape(OPT, TaskName.causal_lm, 2, nowhere).shape is None


@pytest.mark.parametrize("task", [TaskName.causal_lm, TaskName.seq_cls])
def test_what_is_made_is_what_the_formulas_say(task: TaskName) -> None:
    made = made_shape(LLAMA, task, 5, workshop(None))
    assert made.shape == shape_of(LLAMA, task, 5)


def test_code_beside_a_model_that_transformers_knows_is_not_looked_at() -> None:
    own = {"auto_map": {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}}
    plain, beside = (made_shape(config, TaskName.causal_lm, 2, workshop(None)) for config in (OPT, OPT | own))
    assert plain.shape is not None
    assert beside == plain


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "nothing_like_it"}, "nothing_like_it"),
        ({**OPT, "model_type": "own", "auto_map": {}}, "code of its own"),
    ],
    ids=["unknown to transformers", "code of its own"],
)
def test_what_cannot_be_made_says_why(config: dict[str, object], says: str) -> None:
    made = made_shape(config, TaskName.causal_lm, 2, workshop(None))
    assert made.shape is None
    assert says in made.error
