"""Conversations in the forms that people have them, as a chat template takes them, and which turns are learnt.

OpenAI's fine-tuning files as they are: `weight` 0 on an assistant's message leaves it out of the loss, `tools` (or the
older `functions`) and `parallel_tool_calls` go to the template, `function_call` becomes a tool call. ShareGPT's
`conversations` with `from` and `value`, perhaps with the columns `system` and `tools`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from train.data.block import DataError, EmptyRowError, RowError

SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
}
OPENAI_ROLES = {"developer": "system", "function": "tool"}
"""Names that templates do not know, and the ones they do."""

NOT_FOR_TEMPLATES = ("weight", "function_call")

Segment = tuple[str, bool]
"""A piece of text, and whether it is a target."""

Render = Callable[..., str]
"""Messages, whether to open the assistant's next turn, and what else the template is given (`tools=…`) → text."""


@dataclass(frozen=True)
class Conversation:
    """Messages as a template takes them, which of them are learnt, and what else the template is given."""

    messages: list[dict[str, Any]]
    learnt: list[bool]
    extras: dict[str, Any] = field(default_factory=dict)


def conversation_of(row: Mapping[str, Any], column: str) -> Conversation:
    """The conversation of a row.

    Raises:
        RowError: the row lacks something, or has it in a wrong type.
    """
    if column not in row:
        raise RowError(f"no column {column!r}")
    value = row[column]
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        raise RowError(f"column {column!r} is not a list of messages")
    found = [_message(turn, f"message {number} of column {column!r}") for number, turn in enumerate(value, 1)]
    messages, learnt = [message for message, _ in found], [weight for _, weight in found]
    if not any(message["role"] == "assistant" for message in messages):
        raise RowError(f"column {column!r} has no assistant's turn")
    system = row.get("system")
    if isinstance(system, str) and system.strip() and messages[0]["role"] != "system":
        messages, learnt = [{"role": "system", "content": system}, *messages], [False, *learnt]
    return Conversation(messages, learnt, _extras(row))


def turns(
    messages: list[dict[str, Any]], render: Render, learnt: list[bool] | None = None, **extras: Any
) -> list[Segment]:
    """A conversation as its template renders it, cut where assistant's turns begin and end; those are the targets.

    A turn begins where the template, given what came before and asked for an answer, stops; it ends where the
    conversation that ends with it does, or, for templates that render a turn differently once others follow (such as
    those that drop the reasoning of earlier turns), as far after its content.

    Args:
        learnt: which messages are targets; null: every assistant's.

    Raises:
        DataError: the template does not render what came before as the beginning of the whole.
    """
    whole = render(messages, False, **extras)
    pieces: list[Segment] = []
    at = 0
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before, until = render(messages[:number], True, **extras), render(messages[: number + 1], False, **extras)
        if not whole.startswith(before) or len(before) < at:
            raise DataError(_broken(number, "what comes before it is rendered differently once it is there"))
        end = len(until) if whole.startswith(until) else _end(whole, len(before), until, message.get("content"))
        if end is None or end <= len(before):
            raise DataError(_broken(number, "its end cannot be found"))
        pieces += [(whole[at : len(before)], False), (whole[len(before) : end], learnt is None or learnt[number])]
        at = end
    pieces.append((whole[at:], False))
    return [piece for piece in pieces if piece[0]]


def _message(turn: dict[str, Any], place: str) -> tuple[dict[str, Any], bool]:
    """One message, and whether it is learnt."""
    if "from" in turn and "value" in turn:
        turn = _of_sharegpt(turn, place)
    role = turn.get("role")
    if not isinstance(role, str):
        raise RowError(f"{place} has no role")
    # Columnar files give every message the keys of all messages, with null where a message has none.
    message = {name: value for name, value in turn.items() if value is not None and name not in NOT_FOR_TEMPLATES}
    message |= {"role": OPENAI_ROLES.get(role, role), "content": _content(turn, place)}
    calls = turn.get("tool_calls") or ([{"function": turn["function_call"]}] if turn.get("function_call") else [])
    if calls:
        message["tool_calls"] = [_call(call, place) for call in calls]
    weight = turn.get("weight")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        raise RowError(f"{place}: weight is {json.dumps(weight, default=str)}, 0 or 1 is expected")
    learnt = role == "assistant" and weight != 0
    if learnt and not calls and not (message["content"] or "").strip():
        raise EmptyRowError(f"{place} is an empty assistant's turn")
    return message, learnt


def _content(turn: Mapping[str, Any], place: str) -> str | None:
    """The text of a message: as it is, or in parts."""
    content = turn.get("content")
    if isinstance(content, list):
        kinds = {str(part.get("type")) if isinstance(part, dict) else type(part).__name__ for part in content}
        if kinds - {"text"}:
            raise RowError(
                f"{place}: content has parts of the kind {', '.join(sorted(kinds - {'text'}))}, text is expected"
            )
        return "".join(str(part.get("text", "")) for part in content)
    if isinstance(content, str) or (content is None and (turn.get("tool_calls") or turn.get("function_call"))):
        return content
    raise RowError(f"{place}: content is {type(content).__name__}, text is expected")


def _call(call: Any, place: str) -> dict[str, Any]:
    """A tool call with its arguments as an object, as templates write them themselves; OpenAI has them as JSON text."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(f"{place}: a tool call has no function with a name")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _json(arguments or "{}", f"{place}: the arguments of {function['name']}")
    return {
        "type": "function",
        **call,
        "function": {**function, "arguments": arguments if arguments is not None else {}},
    }


def _of_sharegpt(turn: Mapping[str, Any], place: str) -> dict[str, Any]:
    role, value = turn["from"], turn["value"]
    others = {name: part for name, part in turn.items() if name not in ("from", "value")}
    if role == "function_call":
        call = _json(value, place) if isinstance(value, str) else value
        return {**others, "role": "assistant", "content": None, "tool_calls": [{"function": call}]}
    return {**others, "role": SHAREGPT_ROLES.get(role, role), "content": value}


def _extras(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row gives the template beside its messages."""
    extras: dict[str, Any] = {}
    tools = row.get("tools")
    if isinstance(tools, str) and tools.strip():
        tools = _json(tools, "column 'tools'")
    if not tools and row.get("functions"):
        tools = [{"type": "function", "function": function} for function in row["functions"]]
    if tools:
        if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
            raise RowError("column 'tools' is not a list of tools")
        extras["tools"] = tools
        if isinstance(row.get("parallel_tool_calls"), bool):
            extras["parallel_tool_calls"] = row["parallel_tool_calls"]
    return extras


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RowError(f"{what}: not JSON: {error}") from error


def _end(whole: str, start: int, until: str, content: str | None) -> int | None:
    """End of a turn whose text is `content` and then what `until` has after its last occurrence."""
    text = (content or "").strip()
    if not text or text not in until:
        return None
    tail = until[until.rindex(text) + len(text) :]
    found = whole.find(text + tail, start)
    return None if found < 0 else found + len(text + tail)


def _broken(number: int, reason: str) -> str:
    return (
        f"the chat template cannot be used for training on assistant's turns: message {number + 1}, {reason}; "
        "give data.chat_template, or data.completion_only_loss=false with rows of plain text"
    )
