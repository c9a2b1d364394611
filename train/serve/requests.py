"""What clients may ask, field by field: OpenAI's names and meanings, checked before the model sees anything.

A field that would change the answer and is not supported is an error; fields about something else are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_STOPS = 4
LARGEST_SEED = 2**63 - 1

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "tools": ([],),
    "tool_choice": ("none",),
    "functions": ([],),
    "function_call": ("none",),
    "response_format": ({"type": "text"},),
    "audio": (),
    "modalities": (["text"],),
}
"""OpenAI's fields that are not supported, with the values that ask for nothing; null asks for nothing too."""

Text = Annotated[str, Field(min_length=1)]


class Request(BaseModel):
    """What all requests have."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, fields: Any) -> Any:
        asked = fields.items() if isinstance(fields, dict) else ()
        names = [name for name, value in asked if name in NEUTRAL and value not in (None, *NEUTRAL[name])]
        if names:
            raise ValueError(f"not supported: {', '.join(names)}")
        return fields


class StreamOptions(BaseModel):
    """OpenAI's `stream_options`."""

    include_usage: bool = False


class Sampled(Request):
    """How tokens are chosen. What is not given is as in the model's generation_config.json."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-LARGEST_SEED, le=LARGEST_SEED)
    max_tokens: int | None = Field(None, ge=1)


class Generated(Sampled):
    """A text to be continued."""

    max_completion_tokens: int | None = Field(None, ge=1)
    stop: Text | Annotated[list[Text], Field(max_length=MOST_STOPS)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def new_tokens(self) -> int | None:
        """Most tokens of the answer, as asked."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its counts."""
        return self.stream_options is not None and self.stream_options.include_usage


class ContentPart(BaseModel):
    """A part of a message; text alone is served."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message of a conversation; what else it has (name, tool calls) reaches the chat template as it is."""

    model_config = ConfigDict(extra="allow")

    role: Text
    content: str | list[ContentPart] | None = None

    def for_template(self) -> dict[str, Any]:
        """The message as chat templates take it."""
        content = self.content
        text = "".join(part.text for part in content) if isinstance(content, list) else content
        return {"role": self.role, "content": text or "", **(self.model_extra or {})}


class ChatRequest(Generated):
    """`POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)


class CompletionRequest(Generated):
    """`POST /v1/completions`: one prompt, as text or as tokens."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=1)] | Annotated[list[int], Field(min_length=1)]


class Pair(BaseModel):
    """Two texts that are judged together."""

    text: str
    text_pair: str | None = None


class ClassifyRequest(Request):
    """`POST /v1/classify`. `truncate` cuts texts that are too long instead of refusing them."""

    input: str | Pair | Annotated[list[str | Pair], Field(min_length=1)]
    truncate: bool = False

    @property
    def pairs(self) -> list[Pair]:
        """The texts, each perhaps with a second one."""
        items = self.input if isinstance(self.input, list) else [self.input]
        return [Pair(text=item) if isinstance(item, str) else item for item in items]


class SummarizeRequest(Sampled):
    """`POST /v1/summarize`."""

    input: Text | Annotated[list[Text], Field(min_length=1)]
    num_beams: int | None = Field(None, ge=1, le=16)
    truncate: bool = False

    @property
    def texts(self) -> list[str]:
        """The documents."""
        return self.input if isinstance(self.input, list) else [self.input]
