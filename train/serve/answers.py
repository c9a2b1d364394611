"""Answers in OpenAI's shapes: whole, or as events of a stream."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from train.serve.errors import ApiError, broken
from train.serve.turns import Turn
from train.serve.wish import Finish

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Answer:
    """One answer that is being given: its id, its time, and whether it is a chat's."""

    model: str
    chat: bool
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, finish: Finish) -> dict[str, Any]:
        """The answer as one object."""
        content = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return {**self._head(stream=False), "choices": [_choice(content, finish.reason)], "usage": usage([finish])}

    async def events(self, turn: Turn[Finish], include_usage: bool) -> AsyncIterator[bytes]:
        """The answer as server-sent events; an error in the middle is an event too."""
        head = self._head(stream=True)
        nothing_yet = {"usage": None} if include_usage else {}

        def event(content: dict[str, Any], reason: str | None = None) -> bytes:
            return _event({**head, "choices": [_choice(content, reason)], **nothing_yet})

        if self.chat:
            yield event({"delta": {"role": "assistant", "content": ""}})
        try:
            async for piece in turn.pieces():
                yield event({"delta": {"content": piece}} if self.chat else {"text": piece})
            finish = await turn.result()
        except ApiError as error:
            yield _event(error.as_json())
        except Exception:
            yield _event(broken().as_json())
            raise
        else:
            yield event({"delta": {}} if self.chat else {"text": ""}, finish.reason)
            if include_usage:
                yield _event({**head, "choices": [], "usage": usage([finish])})
        yield DONE

    def _head(self, stream: bool) -> dict[str, Any]:
        kind = "text_completion" if not self.chat else "chat.completion.chunk" if stream else "chat.completion"
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {"id": f"{prefix}-{self.id}", "object": kind, "created": self.created, "model": self.model}


def usage(finishes: list[Finish]) -> dict[str, int]:
    """Tokens read and written."""
    read, written = (sum(getattr(end, name) for end in finishes) for name in ("prompt_tokens", "completion_tokens"))
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _choice(content: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": 0, **content, "logprobs": None, "finish_reason": reason}


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"
