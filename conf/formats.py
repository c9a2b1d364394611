"""The shapes of a row of data: the roles of each format, and the names a role's column has by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from conf.schema import DataFormat, TaskName

COLUMNS: dict[DataFormat, dict[str, tuple[str, ...]]] = {
    DataFormat.messages: {"messages": ("messages", "conversations")},
    DataFormat.alpaca: {"instruction": ("instruction",), "input": ("input",), "output": ("output",)},
    DataFormat.prompt: {"prompt": ("prompt",), "response": ("response", "completion")},
    DataFormat.summary: {"document": ("document", "article", "dialogue"), "summary": ("summary", "highlights")},
    DataFormat.text: {"text": ("text",)},
    DataFormat.classification: {
        "text": ("text", "sentence", "sentence1", "premise", "question1"),
        "text_pair": ("text_pair", "sentence2", "hypothesis", "question2"),
        "label": ("label", "labels"),
    },
}
"""Formats in the order in which they are tried."""

AUTOMATIC = tuple(kind for kind in COLUMNS if kind is not DataFormat.classification)
"""Formats that `auto` tries; `classification` follows from the task alone (`format_for`)."""

OPTIONAL = frozenset({"input", "text_pair"})
"""Roles without which a format is still that format."""

USUAL_NAMES = {
    "prompt": ("question", "query", "input", "source"),
    "response": ("answer", "output", "target", "label"),
    "text": ("content", "document", "body"),
    "document": ("text", "source", "body", "content"),
    "summary": ("target", "tldr", "abstract"),
    "label": ("category", "class", "intent", "sentiment", "score", "target", "topic"),
}
"""Names that columns of a role often have elsewhere: only ever proposed to a person, never taken by themselves."""

REJECTED = ("rejected", "rejected_response", "non_preferred_output")
"""Columns with answers that are not to be learnt."""

PREFERENCES = (
    "pairs of a better and a worse answer (for DPO and its like) are not what fine-tuning learns from; to learn the "
    "better ones alone, name both columns, such as data.columns.prompt=prompt data.columns.response=chosen"
)


def preferred_over(columns: Iterable[str], named: Mapping[str, str]) -> bool:
    """Whether rows hold a better and a worse answer, and nobody said which columns to learn from."""
    return not named and any(column in REJECTED for column in columns)


def format_for(task: TaskName, given: DataFormat) -> DataFormat:
    """The format of the data as far as the task says it: what has labels is `classification`."""
    return DataFormat.classification if task is TaskName.seq_cls and given is DataFormat.auto else given
