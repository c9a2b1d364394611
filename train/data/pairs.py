"""Documents for a model with an encoder and a decoder: what the encoder reads, then what the decoder shall write.

Both texts are encoded as the model's own tokenizer does it, with its special tokens; all of the source is no target,
all of the target is one. Runs in worker processes; imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from train.data.block import DataError, Row
from train.data.conversations import Segment
from train.data.rows import PAIRS, prompt_and_response
from train.data.tokenize import Encoder

PROMPT = "{prompt}"


@dataclass
class PairEncoder(Encoder):
    """What turns blocks of texts and their answers into tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shape.format not in PAIRS:
            formats = ", ".join(kind.value for kind in PAIRS)
            raise DataError(
                f"rows in the format {self.shape.format.value} have no text with its answer, which task=seq2seq_lm "
                f"needs ({formats}); give data.columns.<role>=<column> or data.format"
            )
        self._after_source = self._what_comes_after("text")
        self._after_target = self._what_comes_after("text_target") or [self._end]

    def _segments(self, row: Row, file: str) -> list[Segment]:
        prompt, answer = prompt_and_response(row.columns, self.shape)
        return [((self.data.prompt_template or PROMPT).replace(PROMPT, prompt), False), (answer, True)]

    def _documents(self, texts: list[list[Segment]]) -> list[tuple[list[int], list[bool]]]:
        if not texts:
            return []
        asked, answers = ([text for text, _ in side] for side in zip(*texts, strict=True))
        sources = self.tokenizer(asked, verbose=False)["input_ids"]
        targets = self.tokenizer(text_target=answers, verbose=False)["input_ids"]
        documents = []
        for source, target in zip(sources, targets, strict=True):
            source, target = source or [self._end], list(target)
            if self._end not in target[-2:]:  # after it some tokenizers write the language
                target.append(self._end)
            documents.append((source + target, [False] * len(source) + [True] * len(target)))
        return documents

    def _finish(self, tokens: list[int], targets: list[bool]) -> None:
        """The tokenizer has ended both texts."""

    def _too_long(self, tokens: list[int], targets: list[bool]) -> str:
        written, limit = sum(targets), self.data.max_target_length
        if len(tokens) - written > self.data.max_length:
            read = len(tokens) - written
            return f"a source of {read} tokens is more than data.max_length={self.data.max_length}"
        return f"a target of {written} tokens is more than data.max_target_length={limit}" if written > limit else ""

    def _cut(self, tokens: list[int], targets: list[bool]) -> tuple[list[int], list[bool]]:
        first = len(tokens) - sum(targets)
        source = _shortened(tokens[:first], self.data.max_length, self._after_source)
        target = _shortened(tokens[first:], self.data.max_target_length, self._after_target)
        return source + target, [False] * len(source) + [True] * len(target)

    def _what_comes_after(self, argument: str) -> list[int]:
        """Tokens that the tokenizer puts behind a text, or behind what a decoder shall write."""
        plain = self.tokenizer(**{argument: "a"}, add_special_tokens=False)["input_ids"]
        whole = self.tokenizer(**{argument: "a"})["input_ids"]
        for start in range(len(whole) - len(plain) + 1):
            if whole[start : start + len(plain)] == plain:
                return list(whole[start + len(plain) :])
        return []


def _shortened(ids: list[int], limit: int, ending: list[int]) -> list[int]:
    """At most `limit` tokens, the last of them `ending`, as a tokenizer truncates."""
    if len(ids) <= limit:
        return ids
    kept = max(0, limit - len(ending))
    return (ids[:kept] + ending)[:limit]
