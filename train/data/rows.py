"""What a row means: the roles of its columns, and the text of a document with the parts that are targets.

Formats: `prompt` (prompt with response or completion), `alpaca` (instruction, input, output), `messages` (OpenAI's
messages, ShareGPT's conversations too), `summary` (document and summary), `text` and `classification` (text, perhaps
a second one, and label). With a chat template all but the last two go through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conf.formats import AUTOMATIC, COLUMNS, OPTIONAL, PREFERENCES, preferred_over
from conf.schema import DataConfig, DataFormat
from train.data.block import DataError, EmptyRowError, RowError
from train.data.conversations import Render, Segment, conversation_of, turns

DEFAULT_PROMPT_TEMPLATE = "{prompt}\n"

PAIRS = (DataFormat.prompt, DataFormat.alpaca, DataFormat.summary)
"""Formats of one text and the answer to it."""


@dataclass(frozen=True)
class Shape:
    """How rows are read: the format and the column of each role."""

    format: DataFormat
    columns: Mapping[str, str]


def shape_of(first: Mapping[str, Any], config: DataConfig, place: str) -> Shape:
    """The format and columns of the data, judged by its first row.

    Raises:
        DataError: no format fits, or a column that was named is not there.
    """
    for role, column in config.columns.items():
        if column not in first:
            raise DataError(f"{place}: no column {column!r} (data.columns.{role}); there are {', '.join(first)}")
    if preferred_over(first, config.columns):
        raise DataError(f"{place}: columns {', '.join(first)}: {PREFERENCES}")
    formats = [config.format] if config.format is not DataFormat.auto else list(AUTOMATIC)
    for candidate in formats:
        columns = _columns(candidate, first, config)
        if all(role in columns for role in COLUMNS[candidate] if role not in OPTIONAL):
            return Shape(candidate, columns)
    wanted = "; ".join(f"{kind.value}: {', '.join(COLUMNS[kind])}" for kind in formats)
    raise DataError(
        f"{place}: columns {', '.join(first)} do not make a known format ({wanted}); "
        "give data.columns.<role>=<column> or data.format"
    )


def _columns(candidate: DataFormat, first: Mapping[str, Any], config: DataConfig) -> dict[str, str]:
    columns = {}
    for role, names in COLUMNS[candidate].items():
        named = [config.columns[alias] for alias in (role, *names) if alias in config.columns]
        column = next((name for name in (*named, *names) if name in first), None)
        if column is not None:
            columns[role] = column
    return columns


def segments(row: Mapping[str, Any], shape: Shape, config: DataConfig, render: Render | None) -> list[Segment]:
    """The text of a row's document, in pieces that are targets or not; the end token is not in it.

    Args:
        render: the chat template, or None where there is none.

    Raises:
        RowError: the row lacks something, or has it in a wrong type.
        DataError: the format needs a chat template, or the template cannot tell the turns apart.
    """
    if shape.format is DataFormat.text:
        return [(_text(row, shape, "text"), True)]
    every = not config.completion_only_loss
    if shape.format is DataFormat.messages:
        if render is None:
            raise DataError("messages need a chat template: the tokenizer has none, give data.chat_template")
        talk = conversation_of(row, shape.columns["messages"])
        pieces = turns(talk.messages, render, talk.learnt, **talk.extras)
        return [(text, target or every) for text, target in pieces]
    prompt, response = prompt_and_response(row, shape)
    if render is not None:
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        return [(text, target or every) for text, target in turns(messages, render)]
    template = config.prompt_template or DEFAULT_PROMPT_TEMPLATE
    return [(template.replace("{prompt}", prompt), every), (response, True)]


def plain_text(row: Mapping[str, Any], shape: Shape, config: DataConfig) -> str:
    """The text of a row without a chat template, to train a tokenizer on.

    Raises:
        RowError: the row lacks something, or has it in a wrong type.
    """
    if shape.format is DataFormat.messages:
        return "\n".join(
            message["content"] or "" for message in conversation_of(row, shape.columns["messages"]).messages
        )
    if shape.format is DataFormat.classification:
        return "\n".join(text for text in texts_of(row, shape) if text is not None)
    return "".join(text for text, _ in segments(row, shape, config, None))


def texts_of(row: Mapping[str, Any], shape: Shape) -> tuple[str, str | None]:
    """The text of a row in the format `classification`, and the second one where rows have two.

    Raises:
        RowError: the row lacks one of them, or has it in a wrong type.
    """
    return _text(row, shape, "text"), _text(row, shape, "text_pair") if "text_pair" in shape.columns else None


def prompt_and_response(row: Mapping[str, Any], shape: Shape) -> tuple[str, str]:
    """What is asked and what shall be answered, of a row in one of `PAIRS`.

    Raises:
        RowError: the row lacks one of them, or has it in a wrong type.
    """
    if shape.format is DataFormat.prompt:
        return _text(row, shape, "prompt"), _text(row, shape, "response")
    if shape.format is DataFormat.summary:
        return _text(row, shape, "document"), _text(row, shape, "summary")
    instruction = _text(row, shape, "instruction")
    given = row.get(shape.columns["input"]) if "input" in shape.columns else None
    if given is not None and not isinstance(given, str):
        raise RowError(f"column {shape.columns['input']!r} is {type(given).__name__}, text is expected")
    return f"{instruction}\n\n{given}" if given else instruction, _text(row, shape, "output")


def _text(row: Mapping[str, Any], shape: Shape, role: str) -> str:
    column = shape.columns[role]
    if column not in row:
        raise RowError(f"no column {column!r}")
    value = row[column]
    if not isinstance(value, str):
        raise RowError(f"column {column!r} is {type(value).__name__}, text is expected")
    if not value.strip():
        raise EmptyRowError(f"column {column!r} is empty")
    return value
