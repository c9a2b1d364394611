"""What makes two runs the same, and how a difference reads."""

from __future__ import annotations

import pytest

from launcher.plan.content import content_hash, content_of, difference, flatten, run_id, run_name
from tests.unit.planned import config_of


def test_difference_names_keys_with_both_values() -> None:
    before = content_of(config_of())
    after = content_of(config_of("optim.learning_rate=2e-5", "train.max_steps=3", "cluster.nodes=4"))
    assert difference(before, after) == ["optim.learning_rate: 1e-05 → 2e-05", "train.max_steps: null → 3"]
    assert difference(before, before) == []
    assert difference({"a": 1}, {"b": True}) == ["a: 1 → (not given)", "b: (not given) → True"]


def test_content_is_flat_and_plain() -> None:
    content = content_of(config_of())
    assert content["data.packing"] == "exact"
    assert content["model.shape.hidden_size"] == 128
    assert not [key for key in content if key.startswith(("cluster.", "tracking.")) or key in ("name", "run_root")]
    assert list(content) == sorted(content)


def test_hash_is_stable_under_names_and_free_keys() -> None:
    assert content_hash(config_of("name=a")) == content_hash(config_of("name=b", "cluster.nodes=3"))
    assert content_hash(config_of("train.seed=1")) != content_hash(config_of("train.seed=2"))


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["name=mine"], "mine"),
        ([], "random-llama-causal_lm-full"),
        (["model.model_name_or_path=Org/My-Model_7B"], "my-model_7b-causal_lm-full"),
        (["model.model_name_or_path='/models/naïve one/'"], "na-ve-one-causal_lm-full"),
    ],
    ids=["given", "shape", "hub name", "folder with odd letters"],
)
def test_run_name(overrides: list[str], name: str) -> None:
    config = config_of(*overrides)
    assert run_name(config) == name
    assert run_id(config) == f"{name}-{content_hash(config)[:8]}"


def test_flatten_keeps_empty_groups() -> None:
    assert flatten({"b": {"y": 1, "x": {}}, "a": [1]}) == {"a": [1], "b.x": {}, "b.y": 1}
