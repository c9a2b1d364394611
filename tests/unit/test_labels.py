"""Labels of data: what they mean together, their names and order, and rows that have none of them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.layout import RunFolder
from conf.schema import ModelInit, ProblemType, RunConfig, TaskConfig, TaskName
from tests.unit.test_data_prepare import plan_for
from train.data.block import DataError
from train.data.documents import LABELS
from train.data.label_survey import Survey, own_labels
from train.data.labelled import shared
from train.data.labels import Labelling, UnknownLabelError, label_of
from train.data.prepare import prepare
from train.data.prepared import Labels, Prepared
from train.data.rows import RowError, Shape
from train.data.tokenizer import BEGIN, END

SINGLE, SEVERAL, NUMBERS = (
    ProblemType.single_label_classification,
    ProblemType.multi_label_classification,
    ProblemType.regression,
)
BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}


def judged(values: list[Any], known: tuple[str, ...] = (), **task: Any) -> Labelling:
    survey = Survey()
    for line, value in enumerate(values, 1):
        survey.add(value, f"f:{line}")
    return survey.judged(TaskConfig(**task), "label", known)


@pytest.mark.parametrize(
    ("values", "kind", "names", "vectors"),
    [
        (["b", "a", "b"], SINGLE, ["a", "b"], [[1], [0], [1]]),
        ([2, 10, 0], SINGLE, ["0", "2", "10"], [[1], [2], [0]]),
        (["10", "9", "x 2", "x 10"], SINGLE, ["9", "10", "x 2", "x 10"], [[1], [0], [2], [3]]),
        ([True, False], SINGLE, ["false", "true"], [[1], [0]]),
        ([1.0, 0.0], SINGLE, ["0", "1"], [[1], [0]]),
        ([1.5, 2, 3.0], NUMBERS, ["label"], [[1.5], [2], [3]]),
        (["1.5", "2"], NUMBERS, ["label"], [[1.5], [2]]),
        ([["b", "a"], [], ["c"]], SEVERAL, ["a", "b", "c"], [[1, 1, 0], [0, 0, 0], [0, 0, 1]]),
        ([[0, 1, 0], [1, 1, 1]], SEVERAL, ["0", "1", "2"], [[0, 1, 0], [1, 1, 1]]),
        ([[0.0, 1.0], [0.0, 0.0]], SEVERAL, ["0", "1"], [[0, 1], [0, 0]]),
        ([[1, 7], [2]], SEVERAL, ["1", "2", "7"], [[1, 0, 1], [0, 1, 0]]),
        ([[0.5, 2], [1, 3]], NUMBERS, ["label_0", "label_1"], [[0.5, 2], [1, 3]]),
    ],
    ids=lambda value: str(value) if isinstance(value, list) else None,
)
def test_what_labels_mean(values: list[Any], kind: ProblemType, names: list[str], vectors: list[list[float]]) -> None:
    labelling = judged(values)
    assert (labelling.labels.problem_type, labelling.labels.names) == (kind, names)
    assert [labelling.vector(value).tolist() for value in values] == vectors
    assert labelling.vector(values[0]).dtype == np.float32
    assert len(labelling.vector(values[0])) == labelling.width
    assert judged(values[::-1]) == labelling


def test_what_a_person_says_comes_first() -> None:
    assert judged([1, 2, 3], problem_type=NUMBERS).labels == Labels(NUMBERS, ["label"])
    assert judged(["a", "b"], labels=["b", "a", "c"]).labels.names == ["b", "a", "c"]
    assert judged(["a", "b"], ("b", "a", "z")).labels.names == ["b", "a", "z"]
    assert judged(["a", "q"], ("b", "a", "z")).labels.names == ["a", "q"]


@pytest.mark.parametrize(
    ("values", "task", "words"),
    [
        ([], {}, "no label in any training row"),
        ([None, "", float("nan")], {}, "no label in any training row"),
        (["a", "a"], {}, "nothing to tell apart"),
        (["a", ["b"]], {}, r"lists in some rows \(f:2\), not in others \(f:1\)"),
        (["a", "b"], {"problem_type": NUMBERS}, "no number: 'a' in f:1"),
        (["a,b", "b"], {"problem_type": SEVERAL}, r'lists such as \["a", "b"\] \(JSON or Parquet; CSV has none\).*f:1'),
        ([["a"], ["b"]], {"problem_type": SINGLE}, "a label is a list: f:1"),
        ([[0.5, 1], [2]], {}, "1 to 2 numbers"),
        ([[0, 0], [1, 0]], {"labels": ["a", "b", "c"]}, "3 names, the lists of labels have 2"),
        ([1.5, 2], {"labels": ["a", "b"]}, "2 names, the labels have 1 number"),
    ],
)
def test_labels_that_cannot_be_used(values: list[Any], task: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        judged(values, **task)


@pytest.mark.parametrize(
    ("values", "value", "words"),
    [
        (["a", "b"], None, "there is no label"),
        (["a", "b"], " ", "there is no label"),
        (["a", "b"], ["a"], "a list, unlike the others"),
        (["a", "b"], {"x": 1}, "text, a number or a list"),
        ([["a"], ["b"]], "a", "no list, unlike the others"),
        ([1.5, 2], "far", "not 1 number"),
        ([1.5, 2], [1, 2], "not 1 number"),
    ],
)
def test_rows_without_a_label_of_the_kind(values: list[Any], value: Any, words: str) -> None:
    with pytest.raises(RowError, match=words):
        judged(values).vector(value)


def test_an_unknown_label_names_the_nearest() -> None:
    with pytest.raises(UnknownLabelError, match=r"'card_arival' is none of the 2 labels.*nearest: card_arrival"):
        judged(["card_arrival", "refund"]).vector("card_arival")


def test_numbers_that_stand_for_names() -> None:
    shape = Shape(plan_for(RunConfig()).config.data.format, {"label": "label"})
    assert label_of({"label": 1}, shape, ["no", "yes"]) == "yes"
    assert label_of({"label": [0, 1]}, shape, ["no", "yes"]) == ["no", "yes"]
    for number, words in ((-1, "no label"), (2, "not the number of one of 2 names")):
        with pytest.raises(RowError, match=words):
            label_of({"label": number}, shape, ["no", "yes"])


ROWS = [("a good day", "it was", "good"), ("a bad day", "it is", "bad"), ("so so", "perhaps", "fair")] * 4


def write_csv(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def prepared(
    folder: Path, shape: dict[str, Any] | None = None, task: dict[str, Any] | None = None, **data: Any
) -> Prepared:
    config = RunConfig()
    config.task = TaskConfig(**(task or {}))
    config.task.name = TaskName.seq_cls
    config.model.init, config.model.shape = ModelInit.random, dict(shape or BERT)
    config.model.tokenizer_name_or_path, config.model.tokenizer_vocab_size = "train", 300
    config.data.packing = type(config.data.packing).none
    for name, value in data.items():
        setattr(config.data, name, value)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return prepare(plan_for(config), RunFolder(folder), lambda *_: None)


def test_documents_are_what_the_tokenizer_makes_of_pairs_and_cuts(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    file = write_csv(tmp_path / "t.csv", ROWS, ("premise", "hypothesis", "mood"))
    for limit in (32, 11, 10, 7):
        columns = {"label": "mood"}
        made = prepared(tmp_path / "run", train_file=file, columns=columns, max_length=limit)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
        documents = made.open("train")
        assert documents is not None
        assert made.labels == Labels(SINGLE, ["bad", "fair", "good"])
        assert made.splits["train"].targets == len(documents) == len(ROWS)
        for (first, second, label), document in zip(ROWS, documents, strict=True):
            expected = tokenizer(first, second, truncation="longest_first", max_length=limit)
            assert document.ids.tolist() == expected["input_ids"]
            assert document.target_mask.astype(int).tolist() == expected["token_type_ids"]
            assert made.labels.names[int(document.label[0])] == label


def test_single_texts_of_encoders_and_of_causal_models(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    rows = [(text, label) for text, _, label in ROWS]
    file = write_csv(tmp_path / "t.csv", rows, ("text", "label"))
    llama = {"model_type": "llama", "num_key_value_heads": 1, **{k: v for k, v in BERT.items() if k != "model_type"}}
    for shape, ending in ((BERT, END), (llama, "")):
        made = prepared(tmp_path / "run", shape, train_file=file, max_length=16)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
        documents = made.open("train")
        assert documents is not None
        assert tokenizer.decode(documents[0].ids).startswith(BEGIN + "a")
        assert tokenizer.decode(documents[0].ids).endswith("day" + ending)
        assert len(documents[0].ids) == len(tokenizer("a good day")["input_ids"])
        assert not any(document.target_mask.any() for document in documents)


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_label_that_training_does_not_have_names_its_place(tmp_path: Path) -> None:
    train = lines(tmp_path / "t.jsonl", [{"text": text, "label": label} for text, _, label in ROWS])
    test = lines(tmp_path / "x.jsonl", [{"text": "x", "label": "good"}, {"text": "y", "label": "god"}])
    with pytest.raises(DataError, match=r"x\.jsonl:2: the label 'god' is none of the 3 labels.*nearest: good"):
        prepared(tmp_path / "run", train_file=train, test_file=test, max_length=16)


def test_rows_without_a_label_are_broken(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": text, "label": label} for text, _, label in ROWS]
    train = lines(tmp_path / "t.jsonl", [*rows, {"text": "x", "label": None}, {"text": "x"}])
    with pytest.raises(DataError, match=r"(?s)2 broken rows.*:13: there is no label.*:14: no column 'label'"):
        prepared(tmp_path / "run", train_file=train, max_length=16)
    made = prepared(tmp_path / "run", train_file=train, max_length=16, max_bad_rows=2)
    documents = made.open("train")
    assert documents is not None
    assert documents.columns[LABELS].shape == (12, 1)


@pytest.mark.parametrize(
    ("lengths", "room", "kept"),
    [([9], 4, [4]), ([2], 4, [2]), ([9, 2], 6, [4, 2]), ([2, 9], 6, [2, 4]), ([9, 8], 7, [4, 3]), ([3, 3], -1, [0, 0])],
)
def test_the_longer_text_gives_first(lengths: list[int], room: int, kept: list[int]) -> None:
    assert shared(lengths, room) == kept


def test_a_trained_classifier_brings_its_names(tmp_path: Path) -> None:
    config = {"architectures": ["BertForSequenceClassification"], "id2label": {"10": "k", "0": "b", "1": "a"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert own_labels(str(tmp_path)) == Labels(ProblemType.auto, ["b", "a", "k"])
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    assert own_labels(str(tmp_path)) is None


def test_weights_of_labels_that_are_not_there_end_the_data_step(tmp_path: Path) -> None:
    train = lines(tmp_path / "t.jsonl", [{"text": text, "label": label} for text, _, label in ROWS])
    with pytest.raises(DataError, match=r"task.class_weights: the label 'god'.*nearest: good"):
        prepared(tmp_path / "run", task={"class_weights": {"god": 2.0}}, train_file=train, max_length=16)
