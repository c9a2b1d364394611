"""The shapes of a row of data: the roles of each format, and the names a role's column has by itself."""

from __future__ import annotations

from conf.schema import DataFormat

COLUMNS: dict[DataFormat, dict[str, tuple[str, ...]]] = {
    DataFormat.messages: {"messages": ("messages", "conversations")},
    DataFormat.alpaca: {"instruction": ("instruction",), "input": ("input",), "output": ("output",)},
    DataFormat.prompt: {"prompt": ("prompt",), "response": ("response", "completion")},
    DataFormat.summary: {"document": ("document", "article", "dialogue"), "summary": ("summary", "highlights")},
    DataFormat.text: {"text": ("text",)},
}
"""Formats in the order in which they are tried."""

OPTIONAL = frozenset({"input"})
"""Roles without which a format is still that format."""

USUAL_NAMES = {
    "prompt": ("question", "query", "input", "source"),
    "response": ("answer", "output", "target", "label"),
    "text": ("content", "document", "body"),
    "document": ("text", "source", "body", "content"),
    "summary": ("target", "tldr", "abstract"),
}
"""Names that columns of a role often have elsewhere: only ever proposed to a person, never taken by themselves."""
