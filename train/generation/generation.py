"""How a run's model answers: the questions of a batch of documents through `generate`, and the texts that come out.

A causal model is given what comes before a document's first target, an encoder the document's source. An answer follows
from the weights, the document and the seed; the batch it comes in only rounds otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from conf.outcome import Cause
from train.data.documents import Document, LongArray
from train.generation.sampling import SAMPLING, processors, seed_of
from train.tasks.task import Prediction

MORE_TOKENS = 16
"""Tokens an answer may be longer than the expected one, where nothing is said: it shows that a model does not stop."""

BEAMS = ("length_penalty", "early_stopping")
"""Keys of GenerationConfig that only a search with several beams reads."""


class GenerationError(Exception):
    """Answers cannot be generated as `task.generation` says."""

    cause = Cause.config


Numbered = tuple[int, Document]
"""A document behind its place in the split."""


@dataclass(frozen=True)
class Question:
    """What a model is given, and the answer it shall give, as token ids."""

    prompt: LongArray
    expected: LongArray


def question_of(document: Document, halves: bool = True) -> Question:
    """All before the first target, and the first stretch of targets.

    Args:
        halves: of a text that is all target, half is the question. A source for an encoder may be that short.
    """
    length, first = len(document.ids), len(document.prompt)
    if halves and first <= 1:
        first = max(1, length // 2)
    last = first
    while last < length and document.target_mask[last]:
        last += 1
    return Question(document.ids[:first], document.ids[first:last])


class Generation:
    """How answers are asked for.

    Args:
        model: as it was loaded; its own generation_config.json is where `options` start from.
        tokenizer: makes texts of answers.
        options: `task.generation`.
        seed: of sampling.
        longest: tokens of an answer; None: as the expected one and `MORE_TOKENS`.
    """

    def __init__(self, model: Any, tokenizer: Any, options: Mapping[str, Any], seed: int, longest: int | None):
        self._tokenizer, self._seed = tokenizer, seed
        self._longest = options.get("max_new_tokens", longest)
        self._encodes = bool(model.config.is_encoder_decoder)
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._positions: int | None = None if self._encodes else positions
        self._samples = bool(options.get("do_sample"))
        self._sampling = with_options(model.generation_config, options)
        self._config = _searching(self._sampling, tokenizer, self._samples)

    def answer(self, engine: Any, batch: Sequence[Numbered]) -> tuple[list[Prediction], int]:
        """Answers to the documents of a batch, which may be empty, and how many tokens they have.

        A prediction is `{"prediction": text, "reference": text}`. `engine` is an `Engine` or a model.
        """
        questions = [question_of(document, halves=not self._encodes) for _, document in batch]
        questions = questions or [Question(np.array([self._pad]), np.zeros(0, np.int64))]
        ids, mask = self._inputs([question.prompt for question in questions])
        limits = [self._longest or len(question.expected) + MORE_TOKENS for question in questions]
        config = self._config_of(questions, max(limits) if batch else 1, ids.shape[1])
        device = engine.device
        seeds = [seed_of(self._seed, number) for number, _ in batch] or [0]
        output = engine.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            generation_config=config,
            logits_processor=processors(self._sampling, seeds, device) if self._samples else None,
        )
        tails = output[:, 1 if self._encodes else ids.shape[1] :].tolist()
        answers = [
            _ended(tail, config.eos_token_id)[:limit] for tail, limit, _ in zip(tails, limits, batch, strict=False)
        ]
        predictions = [
            Prediction(number, {"prediction": self._text(said), "reference": self._text(question.expected)})
            for (number, _), question, said in zip(batch, questions, answers, strict=False)
        ]
        return predictions, sum(map(len, answers))

    @property
    def _pad(self) -> int:
        return int(self._tokenizer.pad_token_id)

    def _inputs(self, prompts: Sequence[LongArray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompts as rows, and where they are: at the left for an encoder, at the right for a decoder that goes on."""
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self._pad)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            place = slice(0, len(prompt)) if self._encodes else slice(width - len(prompt), width)
            ids[row, place] = torch.from_numpy(prompt)
            mask[row, place] = 1
        return ids, mask

    def _config_of(self, questions: Sequence[Question], limit: int, width: int) -> Any:
        """The configuration of one batch: how long its answers may be, and what ends them.

        An answer ends also where the expected one does, if that is a special token: the end of a chat template's turn
        need not be the end token of the model.
        """
        config = copy.deepcopy(self._config)
        if self._positions is not None:
            limit = max(1, min(limit, self._positions - width))
        config.max_new_tokens = limit
        config.min_length = min(config.min_length or 0, limit)
        closing = {token for question in questions for token in closing_tokens(question.expected, self._tokenizer)}
        config.eos_token_id = sorted({*config.eos_token_id, *closing})
        return config

    def _text(self, ids: Sequence[int] | LongArray) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip()


def with_options(config: Any, options: Mapping[str, Any]) -> Any:
    """A copy of a GenerationConfig with `task.generation` on top of it, and without values that mean nothing then.

    Some hub models come with such values, and transformers refuses to save them.

    Raises:
        GenerationError: transformers knows no such key, or finds that the values contradict each other.
    """
    result = copy.deepcopy(config)
    try:
        unknown = result.update(**options)
        idle = (*(() if result.do_sample else SAMPLING), *(() if (result.num_beams or 1) > 1 else BEAMS))
        for name in idle:
            setattr(result, name, None)
        result.validate(strict=bool(options))
    except ValueError as error:
        raise GenerationError(f"task.generation: {error}") from error
    if unknown:
        raise GenerationError(f"task.generation: transformers' GenerationConfig has no {', '.join(unknown)}")
    return result


def _searching(config: Any, tokenizer: Any, samples: bool) -> Any:
    """The same without sampling: what is sampled by is noise upon the scores."""
    config = with_options(config, {"do_sample": False} | ({"num_beams": 1} if samples else {}))
    config.use_cache = True
    config.max_length = None
    config.pad_token_id = tokenizer.pad_token_id
    config.eos_token_id = stop_tokens(config, tokenizer)
    return config


def stop_tokens(config: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: those of a GenerationConfig and the tokenizer's."""
    own = config.eos_token_id
    found = [own] if isinstance(own, int) else list(own or [])
    return found if tokenizer.eos_token_id in (None, *found) else [*found, tokenizer.eos_token_id]


def closing_tokens(expected: LongArray, tokenizer: Any) -> set[int]:
    """Special tokens that end an expected answer; some chat templates write a newline behind them."""
    added = tokenizer.added_tokens_decoder.items()
    special = {*tokenizer.all_special_ids, *(number for number, token in added if token.special)}
    return {int(token) for token in expected[-2:]} & special


def _ended(ids: list[int], stops: Sequence[int]) -> list[int]:
    """An answer up to its end, which is part of it."""
    end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    return ids[: end + 1]
