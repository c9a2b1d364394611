"""Labels of texts: batches of similar length through a classifier."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import torch

from conf.schema import ProblemType
from train.serve.errors import ending, late
from train.serve.served import Served

Encoded = dict[str, list[int]]
"""What a tokenizer makes of a text, by the name of the model's input."""

LIKELY = 0.5
"""Probability from which one of several labels is given."""


@dataclass(frozen=True)
class Judgement:
    """What a classifier says of one text: fields of the answer, and the tokens that were read."""

    fields: dict[str, Any]
    tokens: int


def classify(
    served: Served, texts: list[Encoded], batch_size: int, deadline: float, timeout_s: float, over: threading.Event
) -> list[Judgement]:
    """Judge tokenised texts, in their order.

    Raises:
        ApiError: it took too long.
    """
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]["input_ids"]))
    found: dict[int, Judgement] = {}
    for start in range(0, len(order), batch_size):
        if over.is_set():
            raise ending()
        if time.monotonic() > deadline:
            raise late(timeout_s)
        places = order[start : start + batch_size]
        inputs = {name: [texts[place][name] for place in places] for name in texts[0]}
        with torch.inference_mode():
            logits = served.model(**served.decoder.pad(inputs, return_tensors="pt").to(served.device)).logits.float()
        for place, fields in zip(places, _fields(served.model.config, logits), strict=True):
            found[place] = Judgement(fields, len(texts[place]["input_ids"]))
    return [found[place] for place in sorted(found)]


def _fields(config: Any, logits: torch.Tensor) -> list[dict[str, Any]]:
    names = [config.id2label[number] for number in range(logits.shape[1])]
    kind = config.problem_type
    if kind == ProblemType.regression.value or (kind is None and len(names) == 1):
        return [{"values": dict(zip(names, row, strict=True))} for row in logits.tolist()]
    if kind == ProblemType.multi_label_classification.value:
        return [_several(dict(zip(names, row, strict=True))) for row in logits.sigmoid().tolist()]
    return [_one(dict(zip(names, row, strict=True))) for row in logits.softmax(-1).tolist()]


def _one(probabilities: dict[str, float]) -> dict[str, Any]:
    return {"label": max(probabilities, key=lambda name: probabilities[name]), "probabilities": probabilities}


def _several(probabilities: dict[str, float]) -> dict[str, Any]:
    likely = [name for name, value in probabilities.items() if value >= LIKELY]
    return {"labels": likely, "probabilities": probabilities}
