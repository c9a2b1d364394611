"""Documents from rows: tokens, and which of them are targets. Runs in worker processes; imports no torch.

A document is what the tokenizer puts before a text (its begin token, if any), the text in pieces, and the end token.
The pieces are encoded one by one, as they are when the model answers a prompt; tokenizers that put a space before every
text encode the whole and assign tokens to pieces by their place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.schema import DataConfig, DataFormat, LongRows
from train.data.block import BadRow, Block, DataError, Row, RowError, decode
from train.data.conversations import Segment
from train.data.documents import GROUP_HASH, INPUT_HASH, LINE, ROW_HASH, BoolArray, IntArray
from train.data.fingerprint import fingerprints, value_hash
from train.data.rows import Shape, segments


@dataclass(frozen=True)
class Tokens:
    """The documents of one block, end to end, with what became of its rows; `columns` are arrays, one entry each."""

    ids: IntArray
    mask: BoolArray
    lengths: IntArray
    done: int
    rows: int
    bad: list[BadRow] = field(default_factory=list)
    truncated: int = 0
    dropped: int = 0
    without_targets: int = 0
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass
class Encoder:
    """What turns blocks into tokens: a tokenizer, the shape of the rows and the options.

    `group_column` is the column by whose values rows are held out; `near` asks for what finds nearly equal rows.
    """

    tokenizer: Any
    shape: Shape
    data: DataConfig
    group_column: str | None = None
    near: bool = False

    def __post_init__(self) -> None:
        self._end = int(self.tokenizer.eos_token_id)
        if self.data.on_long is LongRows.split and self.shape.format is not DataFormat.text:
            raise DataError(f"data.on_long=split is for plain text, not for the format {self.shape.format.value}")
        self._backend: Any = getattr(self.tokenizer, "_tokenizer", None)
        if self._backend is not None:
            # Some models' files bring a length and padding of their own along.
            self._backend.no_truncation()
            self._backend.no_padding()
        self._templated = bool(self.tokenizer.chat_template) and self.shape.format is not DataFormat.text
        self._knows_tools = "tools" in str(self.tokenizer.chat_template)
        self._begin = [] if self._templated else self._what_comes_before()
        self._spaced = self._backend is not None and self._puts_space_before()

    def encode(self, block: Block) -> Tokens:
        """The documents of a block.

        Raises:
            DataError: a document is too long and `on_long` is `error`, or the chat template cannot be used.
        """
        rows, bad = decode(block)
        seen = len(rows) + len(bad)
        kept: list[Row] = []
        texts: list[list[Segment]] = []
        for row in rows:
            try:
                if self.group_column is not None and self.group_column not in row.columns:
                    raise RowError(f"no column {self.group_column!r}")
                texts.append(self._segments(row, block.file))
                kept.append(row)
            except RowError as error:
                bad.append(BadRow(block.file, row.line, str(error), error.empty))
        documents = self._documents(texts)
        columns = self._columns(texts, kept)
        return self._gather(documents, kept, columns, block, seen, sorted(bad, key=lambda row: row.line))

    def _columns(self, texts: list[list[Segment]], rows: list[Row]) -> dict[str, NDArray[Any]]:
        """What is kept of each row beside its tokens."""
        columns = {LINE: np.array([row.line for row in rows], np.int32), **fingerprints(texts, self.near)}
        if self.group_column is not None:
            values = [value_hash(row.columns[self.group_column]) for row in rows]
            columns[GROUP_HASH] = np.array(values, np.uint64)
        return columns

    def _segments(self, row: Row, file: str) -> list[Segment]:
        try:
            return segments(row.columns, self.shape, self.data, self._render if self._templated else None)
        except DataError as error:
            raise DataError(f"{file}:{row.line}: {error}") from error

    def _render(self, messages: list[dict[str, Any]], open_turn: bool, **extras: Any) -> str:
        import jinja2

        if extras.get("tools") and not self._knows_tools:
            raise DataError("rows have tools, which the chat template leaves out; give a data.chat_template with them")
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=open_turn, **extras
            )
        except (jinja2.exceptions.TemplateError, TypeError) as error:
            raise RowError(f"the chat template refuses it: {error}") from error
        return str(text)

    def _documents(self, texts: list[list[Segment]]) -> list[tuple[list[int], list[bool]]]:
        """Tokens, and which of them are targets, of each text in pieces, to be ended and cut."""
        return self._encode_whole(texts) if self._spaced else self._encode_pieces(texts)

    def _encode_pieces(self, texts: list[list[Segment]]) -> list[tuple[list[int], list[bool]]]:
        flat = iter(self._encode([piece for pieces in texts for piece, _ in pieces]))
        documents = []
        for pieces in texts:
            ids, mask = list(self._begin), [False] * len(self._begin)
            for _, target in pieces:
                encoded = next(flat)
                ids += encoded
                mask += [target] * len(encoded)
            documents.append((ids, mask))
        return documents

    def _encode(self, texts: list[str]) -> list[list[int]]:
        if self._backend is not None:
            return [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=False)]
        return [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]

    def _encode_whole(self, texts: list[list[Segment]]) -> list[tuple[list[int], list[bool]]]:
        """As `_encode_pieces`, by the place of each token; one that begins before a target's piece is none."""
        wholes = ["".join(piece for piece, _ in pieces) for pieces in texts]
        documents = []
        encodings = self._backend.encode_batch(wholes, add_special_tokens=False)
        for pieces, encoding in zip(texts, encodings, strict=True):
            bounds = np.cumsum([len(piece) for piece, _ in pieces])
            starts = np.array([start for start, _ in encoding.offsets], np.int64)
            owner = np.minimum(np.searchsorted(bounds, starts, side="right"), len(pieces) - 1)
            targets = np.array([target for _, target in pieces], np.bool_)[owner]
            documents.append((self._begin + encoding.ids, [False] * len(self._begin) + targets.tolist()))
        return documents

    def _gather(
        self,
        documents: list[tuple[list[int], list[bool]]],
        rows: list[Row],
        columns: dict[str, NDArray[Any]],
        block: Block,
        seen: int,
        bad: list[BadRow],
    ) -> Tokens:
        on_long = self.data.on_long
        truncated = dropped = without = 0
        ids: list[int] = []
        mask: list[bool] = []
        lengths: list[int] = []
        kept: list[int] = []
        parts: list[int] = []
        for number, ((tokens, targets), row) in enumerate(zip(documents, rows, strict=True)):
            self._finish(tokens, targets)
            pieces = [(tokens, targets)]
            if too_long := self._too_long(tokens, targets):
                if on_long is LongRows.error:
                    raise DataError(f"{block.file}:{row.line}: {too_long} (data.on_long=error; truncate or drop)")
                if on_long is LongRows.drop:
                    dropped += 1
                    continue
                if on_long is LongRows.split:
                    pieces = self._split(tokens, targets)
                else:
                    truncated += 1
                    pieces = [self._cut(tokens, targets)]
            for part, (piece, mask_of_piece) in enumerate(pieces):
                if not self._has_target(mask_of_piece):
                    without += 1
                    continue
                ids += piece
                mask += mask_of_piece
                lengths.append(len(piece))
                kept.append(number)
                parts.append(part)
        arrays = np.array(ids, np.int32), np.array(mask, np.bool_), np.array(lengths, np.int32)
        columns = {name: column[np.array(kept, np.int64)] for name, column in columns.items()}
        columns |= {name: _of_parts(columns[name], parts) for name in (ROW_HASH, INPUT_HASH) if name in columns}
        return Tokens(*arrays, block.done, seen, bad, truncated, dropped, without, columns)

    def _finish(self, tokens: list[int], targets: list[bool]) -> None:
        """End a document with the end token, a target, where a chat template did not do that."""
        if self._templated and self._end in tokens[-2:]:
            return  # some templates write a newline after the end token
        tokens.append(self._end)
        targets.append(not self._templated or self.data.completion_only_loss is False or targets[-1])

    def _too_long(self, tokens: list[int], targets: list[bool]) -> str:
        """How a document is longer than it may be, in words; empty where it is not."""
        limit = self.data.max_length
        return f"{len(tokens)} tokens are more than data.max_length={limit}" if len(tokens) > limit else ""

    def _cut(self, tokens: list[int], targets: list[bool]) -> tuple[list[int], list[bool]]:
        """A document within its limit."""
        return tokens[: self.data.max_length], targets[: self.data.max_length]

    def _split(self, tokens: list[int], targets: list[bool]) -> list[tuple[list[int], list[bool]]]:
        """Documents within the limit that follow each other.

        Each begins with the last token of the one before, which is no target there: so each token is one once.
        """
        begin, limit = self._begin, self.data.max_length
        tokens, targets = tokens[len(begin) :], targets[len(begin) :]
        room = max(2, limit - len(begin))
        pieces = []
        for start in range(0, max(1, len(tokens) - 1), room - 1):
            mask = targets[start : start + room]
            mask[0] = mask[0] and start == 0
            pieces.append((begin + tokens[start : start + room], [False] * len(begin) + mask))
        return pieces

    def _has_target(self, targets: list[bool]) -> bool:
        """Whether there is something to learn; the first token, before which nothing comes, is no target."""
        targets[0] = False
        return any(targets)

    def _what_comes_before(self) -> list[int]:
        """Tokens that the tokenizer puts before a text by itself."""
        plain = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = self.tokenizer("a")["input_ids"]
        for start in range(len(whole) - len(plain) + 1):
            if whole[start : start + len(plain)] == plain:
                return list(whole[:start])
        return []

    def _puts_space_before(self) -> bool:
        """Whether a text in two pieces gets other tokens than in one, for want of a boundary inside it."""
        pieces = [self._backend.encode(text, add_special_tokens=False).ids for text in ("a:\n", "b")]
        return bool(pieces[0] + pieces[1] != self._backend.encode("a:\nb", add_special_tokens=False).ids)


def _of_parts(hashes: NDArray[np.uint64], parts: list[int]) -> NDArray[np.uint64]:
    """Hashes of rows as those of the documents that they were split into, which differ from each other."""
    marked: NDArray[np.uint64] = hashes ^ (np.array(parts, np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return marked
