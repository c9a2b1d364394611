"""Continuing a text, token by token: transformers' `generate`, with text as it comes, stop texts and an early end."""

from __future__ import annotations

import copy
import threading
import time
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from train.serve.errors import ending, late
from train.serve.served import Served
from train.serve.turns import Emit
from train.serve.wish import Finish, Wish

TAIL_TOKENS = 6
"""Tokens of the prompt that are decoded with the answer: what begins a word depends on what is before it."""


def generate(served: Served, prompt: list[int], wish: Wish, emit: Emit, over: threading.Event) -> Finish:
    """Answer a prompt; `emit` gets the text in pieces.

    Raises:
        ApiError: it took too long.
    """
    answer = _Answer(served, prompt, wish.stops, emit)
    ids = torch.tensor([prompt], device=served.device)
    _run(served, ids, torch.ones_like(ids), _generation(served, wish, beams=False), wish, over, answer)
    answer.finish()
    return Finish("stop" if answer.stopped else "length", len(prompt), answer.count)


def generate_texts(
    served: Served, prompts: list[list[int]], wish: Wish, batch_size: int, over: threading.Event
) -> tuple[list[str], list[Finish]]:
    """Answer several prompts of an encoder-decoder in batches, also with beams.

    Raises:
        ApiError: it took too long.
    """
    texts: list[str] = []
    finishes: list[Finish] = []
    config = _generation(served, wish, beams=True)
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        padded = served.decoder.pad({"input_ids": batch}, return_tensors="pt").to(served.device)
        output = _run(served, padded["input_ids"], padded["attention_mask"], config, wish, over)
        for prompt, row in zip(batch, output[:, 1:].tolist(), strict=True):
            end = next((place for place, token in enumerate(row) if token in config.eos_token_id), None)
            written = row if end is None else row[: end + 1]
            texts.append(served.decoder.decode(written, skip_special_tokens=True).strip())
            finishes.append(Finish("length" if end is None else "stop", len(prompt), len(written)))
    return texts, finishes


def _run(
    served: Served,
    ids: Tensor,
    mask: Tensor,
    config: Any,
    wish: Wish,
    over: threading.Event,
    answer: _Answer | None = None,
) -> Any:
    """`generate` of transformers, until it ends by itself, the answer is whole, nobody waits or time is up."""
    end = _End(wish.deadline, over, answer)
    end.check(wish)
    if config.do_sample:
        torch.seed() if wish.seed is None else torch.manual_seed(wish.seed)
    with torch.inference_mode():
        output = served.model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            streamer=answer,
            stopping_criteria=StoppingCriteriaList([end]),
        )
    end.check(wish)
    return output


def _generation(served: Served, wish: Wish, beams: bool) -> Any:
    """The model's generation_config with what was asked for. A temperature or `top_p` asks for sampling, 0 for none."""
    config = copy.deepcopy(served.model.generation_config)
    config.update(max_length=None, max_new_tokens=wish.new_tokens, use_cache=True, return_dict_in_generate=False)
    if not beams:
        config.update(num_beams=1)
    elif wish.num_beams is not None:
        config.update(num_beams=wish.num_beams)
    if wish.temperature == 0:
        config.update(do_sample=False)
    elif wish.temperature is not None or wish.top_p is not None:
        config.update(do_sample=True)
    if config.do_sample:
        asked = {"temperature": wish.temperature, "top_p": wish.top_p}
        config.update(**{name: value for name, value in asked.items() if value is not None})
        config.update(top_k=config.top_k or 0)  # transformers' own default would cut to 50 tokens unasked
    else:
        config.update(temperature=None, top_p=None, top_k=None)
    config.update(eos_token_id=_ends(served), pad_token_id=served.tokenizer.pad_token_id)
    return config


def _ends(served: Served) -> list[int]:
    """Tokens that end an answer: the model's own and the tokenizer's."""
    own = served.model.generation_config.eos_token_id
    found = [own] if isinstance(own, int) else list(own or [])
    if served.tokenizer.eos_token_id is not None:
        found.append(served.tokenizer.eos_token_id)
    return list(dict.fromkeys(found))


class _Answer(BaseStreamer):  # type: ignore[misc]
    """The answer as it grows: tokens in, text out, as soon as no later token can change it."""

    def __init__(self, served: Served, prompt: list[int], stops: tuple[str, ...], emit: Emit) -> None:
        self._decoder = served.decoder
        self._ends = set(_ends(served))
        self._ids = prompt[-TAIL_TOKENS:]
        self._from, self._read = 0, len(self._ids)
        self._stops = stops
        self._held = ""
        self._emit = emit
        self._prompt_is_due = True
        self.count = 0
        self.stopped = False

    def put(self, value: Tensor) -> None:
        """The prompt first, then each token."""
        if self._prompt_is_due:
            self._prompt_is_due = False
            return
        for token in value.flatten().tolist():
            if self.stopped:
                return
            self.count += 1
            if token in self._ends:
                self.stopped = True
                return
            self._ids.append(token)
            self._take(self._new_text(last=False))

    def end(self) -> None:
        """All tokens were put; the text is finished by `finish`."""

    def finish(self) -> None:
        """Pass on what was held back."""
        if self._held or self._read < len(self._ids):
            self._take(self._new_text(last=True))
            self._say(self._held)

    def _new_text(self, last: bool) -> str:
        """Text of the tokens since the last; nothing while a character is not whole."""
        before = self._decode(self._ids[self._from : self._read])
        after = self._decode(self._ids[self._from :])
        if len(after) <= len(before) or (after.endswith("\ufffd") and not last):
            return ""
        self._from, self._read = self._read, len(self._ids)
        return after[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._decoder.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _take(self, text: str) -> None:
        """Pass on text up to a stop, keeping back what may be a stop's beginning."""
        self._held += text
        found = [self._held.find(stop) for stop in self._stops if stop in self._held]
        if found:
            self._held = self._held[: min(found)]
            self._read = len(self._ids)
            self.stopped = True
            return
        kept = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        self._say(self._held[: len(self._held) - kept])

    def _say(self, text: str) -> None:
        if text:
            self._held = self._held[len(text) :]
            self._emit(text)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-size:])), 0)


class _End(StoppingCriteria):  # type: ignore[misc]
    """Ends `generate` after a token where its answer is whole, nobody waits any more or time is up."""

    def __init__(self, deadline: float, over: threading.Event, answer: _Answer | None) -> None:
        self._deadline = deadline
        self._over = over
        self._answer = answer

    def check(self, wish: Wish) -> None:
        """Raise where the answer is not to be had: the server or the client leaves, or it took too long.

        Raises:
            ApiError: in these cases.
        """
        if self._over.is_set():
            raise ending()
        if time.monotonic() > self._deadline and not (self._answer is not None and self._answer.stopped):
            raise late(wish.timeout_s)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """Whether each row is done."""
        whole = self._answer is not None and self._answer.stopped
        done = whole or self._over.is_set() or time.monotonic() > self._deadline
        return torch.full((input_ids.shape[0],), done, device=input_ids.device, dtype=torch.bool)
