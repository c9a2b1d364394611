"""What a plan says of task, method and evaluation."""

from __future__ import annotations

import pytest

from launcher.plan.learning import evaluation_line, task_line, trained
from tests.unit.planned import plan_of

LORA = "method=lora"
LABELS = ("task=seq_cls", "model=tiny-bert")
HELD = "data.validation_size=0.1"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), "all 1.25M parameters"),
        ((LORA,), "trainable 233k of 1.25M (19 %)"),
        (("method=qlora",), "trainable 233k of 1.25M (19 %), over weights in nf4"),
        (("method=freeze",), "trainable 394k of 1.25M (32 %)"),
        (("method=ia3",), "trainable 3.07k of 1.25M (0.25 %)"),
        ((LORA, "method.peft.bias=all"), "counted when the model is loaded"),
    ],
)
def test_the_share_that_is_trained(overrides: tuple[str, ...], expected: str) -> None:
    assert trained(plan_of(*overrides)) == expected


@pytest.mark.parametrize(
    ("overrides", "task", "evaluation"),
    [
        ((), "", ""),
        ((HELD,), "", "every 100 steps"),
        (
            (*LABELS, "task.labels=[a,b,c]", "task.balance_classes=true", HELD, "train.eval_strategy=no"),
            "3 labels, weighted by how rare they are",
            "at the end alone",
        ),
        (
            (*LABELS, HELD, "train.load_best_model_at_end=true", "train.early_stopping_patience=2"),
            "labels as the data has them",
            "every 100 steps; hands back the best model by loss; ends after 2 evaluations without a better loss",
        ),
        (
            ("task=seq2seq_lm", "model=tiny-t5", "task.max_predictions=50"),
            "1024 tokens in, 128 out; evaluations answer the first 50 documents for ROUGE and exact match",
            "",
        ),
        (
            ("task.predict_with_generate=true", "task.metrics=[rouge]"),
            "evaluations answer every document for rouge",
            "",
        ),
    ],
    ids=["nothing", "validation", "labels", "best", "pairs", "answers"],
)
def test_task_and_evaluation_in_words(overrides: tuple[str, ...], task: str, evaluation: str) -> None:
    config = plan_of(*overrides).config
    assert (task_line(config), evaluation_line(config)) == (task, evaluation)
