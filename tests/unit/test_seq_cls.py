"""Classification: tensors, losses, class weights, metrics, the picture; against torch and scikit-learn."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from conf.layout import RunFolder
from conf.schema import ProblemType, TaskConfig
from train.data.block import DataError
from train.data.class_weights import class_weights
from train.data.documents import LABELS, Document
from train.data.prepared import Labels
from train.evaluation.class_report import write_class_report
from train.evaluation.classification import per_class, scores
from train.evaluation.confusion import SHOWN, confusion_picture
from train.model import head
from train.tasks.seq_cls import SequenceClassification

SINGLE = Labels(ProblemType.single_label_classification, ["a", "b", "c"])
SEVERAL = Labels(ProblemType.multi_label_classification, ["a", "b", "c"])
NUMBERS = Labels(ProblemType.regression, ["x", "y"])
WEIGHTS = [0.5, 1.0, 3.0]
LOGITS = torch.tensor([[1.0, 2.0, -1.0], [0.3, 0.2, 0.1], [-2.0, 0.0, 4.0]])


def document(ids: list[int], second: int, label: list[float]) -> Document:
    mask = np.arange(len(ids)) >= second
    return Document(np.array(ids, np.int64), mask, np.array(label, np.float32))


def answering(logits: torch.Tensor) -> Any:
    """A model that says `logits`, and what it was asked."""

    def model(**inputs: Any) -> Any:
        model.inputs = inputs  # type: ignore[attr-defined]
        return SimpleNamespace(logits=logits[: len(inputs["input_ids"])])

    return model


@pytest.mark.parametrize(
    ("labels", "values", "weights"),
    [
        (SINGLE, [[2], [0], [2]], None),
        (SINGLE, [[2], [0], [1]], WEIGHTS),
        (SEVERAL, [[1, 0, 1], [0, 0, 0], [1, 1, 1]], None),
        (SEVERAL, [[1, 0, 1], [0, 0, 0], [1, 1, 1]], WEIGHTS),
        (NUMBERS, [[0.5, -1], [2, 3], [0, 0]], None),
    ],
    ids=["one", "one, weighted", "several", "several, weighted", "numbers"],
)
def test_losses_are_sums_over_documents(labels: Labels, values: list[Any], weights: list[float] | None) -> None:
    task = SequenceClassification(9, labels, weights, token_types=True)
    documents = [
        document([1, 5, 2], 3, values[0]),
        document([1, 2], 1, values[1]),
        document([1, 6, 7, 2], 2, values[2]),
    ]
    batch = task.collate(documents)
    assert batch["input_ids"].tolist() == [[1, 5, 2, 9], [1, 2, 9, 9], [1, 6, 7, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]
    logits = LOGITS[:, : len(labels.names)]
    model = answering(logits)
    found = task.loss_sum(model, batch)
    assert set(model.inputs) == {"input_ids", "attention_mask", "token_type_ids"}
    expected = torch.zeros(())
    for row, value in enumerate(values):
        if labels is SINGLE:
            factor = weights[value[0]] if weights else 1.0
            expected += factor * functional.cross_entropy(logits[row], torch.tensor(value[0]))
        elif labels is SEVERAL:
            each = functional.binary_cross_entropy_with_logits(
                logits[row], torch.tensor(value).float(), reduction="none"
            )
            expected += (each * torch.tensor(weights or [1.0] * 3)).mean()
        else:
            expected += ((logits[row] - torch.tensor(value)) ** 2).mean()
    torch.testing.assert_close(found, expected)
    judged = task.judge(model, {**batch, "documents": (4, 2, 7)})
    torch.testing.assert_close(judged.loss_sum, expected)
    assert judged.targets == 3
    assert [one.document for one in judged.predictions] == [4, 2, 7]


def test_an_empty_micro_batch_counts_nothing_and_reaches_the_weights() -> None:
    head = torch.nn.Linear(1, 3)
    for labels in (SINGLE, SEVERAL):
        task = SequenceClassification(9, labels, None, token_types=False)
        batch = task.collate([])
        assert batch["input_ids"].tolist() == [[9]]
        loss = task.loss_sum(lambda **inputs: SimpleNamespace(logits=head(inputs["input_ids"].float())), batch)
        loss.backward()
        assert loss.item() == 0
        assert head.weight.grad is not None
        assert not head.weight.grad.any()
        judged = task.judge(answering(LOGITS), batch)
        assert (judged.loss_sum.item(), judged.targets, judged.predictions) == (0, 0, [])


def test_class_weights_follow_the_training_data_and_names() -> None:
    column = np.array([0, 0, 0, 2, 2, 0, 1, 0], np.float32)[:, None]
    documents: Any = SimpleNamespace(columns={LABELS: column})
    balanced = class_weights(TaskConfig(balance_classes=True), SINGLE, documents)
    assert balanced == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=column[:, 0]).tolist())
    assert class_weights(TaskConfig(), SINGLE, documents) is None
    assert class_weights(TaskConfig(class_weights={"b": 2.5}), SINGLE, documents) == [1, 2.5, 1]
    with pytest.raises(DataError, match=r"'cc' is none of the 3 labels.*nearest: c"):
        class_weights(TaskConfig(class_weights={"cc": 2.5}), SINGLE, documents)
    with pytest.raises(DataError, match="are numbers"):
        class_weights(TaskConfig(balance_classes=True), NUMBERS, documents)


def test_metrics_of_single_labels_are_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    right, said = generator.integers(0, 3, 60), generator.integers(0, 2, 60)
    names = SINGLE.names
    outputs = [{"reference": names[a], "prediction": names[b]} for a, b in zip(right, said, strict=True)]
    found = scores(SINGLE, outputs)
    assert found["accuracy"] == sklearn_metrics.accuracy_score(right, said)
    assert found["f1_macro"] == sklearn_metrics.f1_score(right, said, average="macro")
    assert found["precision_weighted"] == sklearn_metrics.precision_score(
        right, said, average="weighted", zero_division=0
    )
    assert found["recall_micro"] == found["accuracy"]
    each = per_class(SINGLE, outputs)
    assert [row["label"] for row in each] == names
    assert [row["f1"] for row in each] == sklearn_metrics.f1_score(right, said, average=None).tolist()
    assert sum(row["documents"] for row in each) == 60
    assert scores(SINGLE, []) == {}


def test_metrics_of_several_labels_and_of_numbers() -> None:
    right, said = [["a", "b"], [], ["c"]], [["a"], [], ["c"]]
    outputs = [{"reference": a, "prediction": b} for a, b in zip(right, said, strict=True)]
    found = scores(SEVERAL, outputs)
    held = [[[int(n in names) for n in "abc"] for names in side] for side in (right, said)]
    assert found["subset_accuracy"] == pytest.approx(2 / 3)
    assert found["f1_micro"] == sklearn_metrics.f1_score(*held, average="micro")
    assert found["f1_macro"] == sklearn_metrics.f1_score(*held, average="macro", zero_division=0)
    truth, guess = np.array([[1.0], [2.0], [4.0]]), np.array([[1.5], [2.0], [3.0]])
    numbers = [{"reference": a.tolist(), "prediction": b.tolist()} for a, b in zip(truth, guess, strict=True)]
    found = scores(Labels(ProblemType.regression, ["x"]), numbers)
    assert found["mse"] == sklearn_metrics.mean_squared_error(truth, guess)
    assert found["mae"] == sklearn_metrics.mean_absolute_error(truth, guess)
    assert found["r2"] == sklearn_metrics.r2_score(truth, guess)
    assert found["spearman"] == pytest.approx(1)
    assert found["pearson"] == pytest.approx(np.corrcoef(truth[:, 0], guess[:, 0])[0, 1])


@pytest.mark.parametrize("count", [3, 77, SHOWN + 20])
def test_the_picture_shows_every_pair_of_labels_once(count: int) -> None:
    counts = np.eye(count, dtype=np.int64) * 5
    counts[0, 1] = 2
    root = ElementTree.fromstring(confusion_picture(counts, [f"<{number}>" for number in range(count)], "test"))
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    shown = min(count, SHOWN)
    assert len(titles) == shown + 1
    assert "<0> taken for <1>: 2 of 7" in titles
    words = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("<0>") == 2
    assert any("labels with most mistakes" in text for text in words) is (count > shown)


def test_the_report_of_a_split_lies_in_the_run_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    outputs: list[dict[str, Any]] = [{"reference": "a", "prediction": "b"}, {"reference": "b", "prediction": "b"}]
    write_class_report(run, "test", SINGLE, outputs)
    assert [row["recall"] for row in json.loads(run.class_report("test").read_text())] == [0, 1, 0]
    assert "a taken for b: 1 of 1" in run.figure("confusion-test").read_text()
    several = [{"reference": ["a"], "prediction": ["a", "b"]}]
    write_class_report(run, "validation", SEVERAL, several)
    assert run.class_report("validation").exists()
    assert not run.figure("confusion-validation").exists()


def test_new_heads_are_the_same_whatever_was_drawn_before() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    made = []
    for state in (1, 2):
        torch.manual_seed(state)
        model = BertForSequenceClassification(config)
        body = {name: value.clone() for name, value in model.state_dict().items() if "classifier" not in name}
        head.draw(model, ["classifier.weight"] if state == 1 else ["classifier.bias", "classifier.weight"], seed=7)
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in body.items())
        assert torch.initial_seed() == state
        made.append(model.classifier.weight.detach().clone())
    assert torch.equal(*made)
    head.draw(model, ["classifier.weight"], seed=8)
    assert not torch.equal(model.classifier.weight, made[0])
