"""The points of a sweep are what Hydra alone would compose for each of them."""

from __future__ import annotations

import pytest

from launcher.compose.compose import compose
from launcher.compose.points import points

SWEEPS = {
    "values": ["experiment=demo", "optim.learning_rate=1e-5,2e-5", "train.seed=1,2,3"],
    "groups": ["parallel=zero2,zero3", "schedule=cosine,wsd", "optim.learning_rate=1e-3,2e-3"],
    "top level": ["name=a,b", "optim.adam_beta1=0.8,0.9"],
    "mappings": ["data.columns={prompt: a},{response: b}", "train.seed=1,2"],
    "parent and child": ["data.columns={prompt: a},{prompt: b}", "data.columns.response=c,d"],
    "lists": ["tracking.tags=[a],[b,c]", "method.freeze=['*.0.*'],[]"],
    "added": ["+parallel.deepspeed.zero_optimization.reduce_bucket_size=1000,2000", "parallel=zero1,zero2"],
    "interpolation": ["optim.learning_rate=1e-3,2e-3", "schedule.min_lr_ratio=${optim.weight_decay}"],
    "range": ["train.global_batch_size=range(8,40,8)", "experiment=demo,gsm8k"],
    "quoted": ['name="a b","c,d"', "data.prompt_template='Q: {prompt}','A: {prompt}'"],
}
COUNTS = [6, 8, 4, 4, 4, 4, 4, 2, 8, 4]


@pytest.mark.parametrize(("words", "count"), zip(SWEEPS.values(), COUNTS, strict=True), ids=SWEEPS)
def test_a_point_is_what_its_words_compose(words: list[str], count: int) -> None:
    found = points(words)
    assert len(found) == count
    for point in found:
        assert point.config == compose(list(point.words)), point.overrides


def test_points_share_nothing_that_can_be_changed() -> None:
    first, second = points(["optim.learning_rate=1e-3,2e-3", "data.columns.prompt=question"])
    first.config.optim.learning_rate = 5.0
    assert second.config.optim.learning_rate == 2e-3


def test_a_sweep_kept_in_a_file_adds_its_words_and_the_command_line_wins() -> None:
    found = points(["sweep=lr_range", "train.max_steps=7", "experiment=demo"])
    assert [point.config.optim.learning_rate for point in found] == [
        1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2,
    ]  # fmt: skip
    assert {point.config.train.max_steps for point in found} == {7}
    assert {point.config.schedule.lr_scheduler_type.value for point in found} == {"constant"}
    assert all(point.config == compose(list(point.words)) for point in found)
