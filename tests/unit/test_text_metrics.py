"""Metrics of answers: those of the rouge-score package over unsharded predictions, and exact match as it is stated."""

from __future__ import annotations

import pytest
from rouge_score.rouge_scorer import RougeScorer

from train.evaluation.text import normalised, text_scores
from train.tasks.task import Prediction

PAIRS = [
    ("the cat sat on the mat", "The cat sat on a mat."),
    ("a dog runs", "dogs are running"),
    ("", "something"),
    ("Same  text", "same text"),
]
PREDICTIONS = [
    Prediction(place, {"prediction": said, "reference": wanted}) for place, (said, wanted) in enumerate(PAIRS)
]


def test_rouge_is_the_mean_of_the_package_s_own() -> None:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    found = text_scores(PREDICTIONS)
    for name in ("rouge1", "rouge2", "rougeL"):
        own = [scorer.score(wanted, said)[name].fmeasure for said, wanted in PAIRS]
        assert found[name] == pytest.approx(sum(own) / len(own), abs=1e-12)
    assert found["rouge1"] > 0.4
    assert found["exact_match"] == 0.25


@pytest.mark.parametrize(
    ("said", "expected", "same"),
    [
        ("Paris", "paris", True),
        ("  New\n York ", "new york", True),
        ("ﬁne", "fine", True),
        ("Paris.", "Paris", False),
        ("the end", "end", False),
    ],
)
def test_exact_match_is_of_the_same_text_but_for_case_and_space(said: str, expected: str, same: bool) -> None:
    assert (normalised(said) == normalised(expected)) is same


def test_metrics_are_chosen_and_nothing_is_measured_without_answers() -> None:
    assert set(text_scores(PREDICTIONS, ["exact_match"])) == {"exact_match"}
    assert set(text_scores(PREDICTIONS, ["rouge"])) == {"rouge1", "rouge2", "rougeL"}
    assert text_scores([]) == {}
