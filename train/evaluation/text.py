"""What generated answers are worth beside the expected ones: ROUGE and exact match, as means over documents.

ROUGE is that of the `rouge-score` package (F1 of common words, word pairs and the longest common subsequence; words are
lower-case letters and digits, reduced to their stems). An exact match is the same text after Unicode's NFKC, in lower
case, with each run of white space one space and none at the ends.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from train.tasks.task import Prediction

ROUGE = ("rouge1", "rouge2", "rougeL")
METRICS = ("rouge", "exact_match")
"""What `task.metrics` may name."""


def text_scores(predictions: Sequence[Prediction], metrics: Sequence[str] = ()) -> dict[str, float]:
    """Means from 0 to 1 over predictions with `prediction` and `reference`; nothing where there is none.

    `metrics` are of `METRICS`; empty stands for all.
    """
    pairs = [(one.output["prediction"], one.output["reference"]) for one in predictions]
    if not pairs:
        return {}
    wanted = metrics or METRICS
    scores = rouge(pairs) if "rouge" in wanted else {}
    if "exact_match" in wanted:
        scores["exact_match"] = sum(normalised(said) == normalised(expected) for said, expected in pairs) / len(pairs)
    return scores


def rouge(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L (F1) of answers and references."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    found = [scorer.score(expected, said) for said, expected in pairs]
    return {name: sum(one[name].fmeasure for one in found) / len(found) for name in ROUGE}


def normalised(text: str) -> str:
    """A text as exact match compares it."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())
