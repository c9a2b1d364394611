"""From what a client sent to tokens within the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conf.serving import ServeSettings
from train.serve.errors import ApiError, wrong
from train.serve.requests import ChatRequest, CompletionRequest, Pair

if TYPE_CHECKING:
    from train.serve.served import Served

TOO_LONG = "context_length_exceeded"


def chat_prompt(served: Served, request: ChatRequest) -> list[int]:
    """A conversation in the model's chat template, open for the assistant's answer.

    Raises:
        ApiError: there is no template, or it refuses the conversation.
    """
    import jinja2

    if not served.tokenizer.chat_template:
        raise wrong(f"{served.name} has no chat template; POST /v1/completions takes plain prompts", "messages")
    messages = [message.for_template() for message in request.messages]
    try:
        text = served.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except (jinja2.exceptions.TemplateError, TypeError, ValueError) as error:
        raise wrong(f"the chat template refuses the messages: {error}", "messages") from error
    return list(served.tokenizer(text, add_special_tokens=False)["input_ids"])


def completion_prompt(served: Served, request: CompletionRequest) -> list[int]:
    """A prompt as the tokenizer begins a text; tokens as they are.

    Raises:
        ApiError: a token is none of the model's.
    """
    prompt: Any = request.prompt
    if isinstance(prompt, list) and isinstance(prompt[0], int):
        size = served.model.config.get_text_config().vocab_size
        if not all(0 <= token < size for token in prompt):
            raise wrong(f"tokens have to be between 0 and {size - 1}", "prompt")
        return prompt
    ids = list(served.tokenizer(prompt[0] if isinstance(prompt, list) else prompt)["input_ids"])
    return ids[:-1] if len(ids) > 1 and ids[-1] == served.tokenizer.eos_token_id else ids


def encode_pair(served: Served, pair: Pair, limit: int | None, truncate: bool) -> dict[str, list[int]]:
    """A text, or two, as a classifier reads it.

    Raises:
        ApiError: it is longer than `limit` tokens, and `truncate` is not asked for.
    """
    cut = {"truncation": True, "max_length": limit} if truncate and limit else {}
    encoded = dict(served.tokenizer(pair.text, pair.text_pair, **cut))
    _require_within(len(encoded["input_ids"]), limit, "input")
    return encoded


def encode_text(served: Served, text: str, limit: int | None, truncate: bool) -> list[int]:
    """A document as an encoder reads it.

    Raises:
        ApiError: it is longer than `limit` tokens, and `truncate` is not asked for.
    """
    return encode_pair(served, Pair(text=text), limit, truncate)["input_ids"]


def prompt_limit(served: Served, settings: ServeSettings) -> int | None:
    """Most tokens of a prompt; None where nothing sets a limit."""
    limits = [limit for limit in (settings.max_prompt_tokens, served.context) if limit]
    return min(limits, default=None)


def room(served: Served, settings: ServeSettings, prompt: int, asked: int | None, default: int | None) -> int:
    """Most tokens of an answer to a prompt of `prompt` tokens.

    Raises:
        ApiError: the prompt is too long, or more was asked for than there is room.
    """
    _require_within(prompt, prompt_limit(served, settings), "prompt")
    require_given(settings, asked or 1)
    left = served.context - prompt if served.context else settings.max_new_tokens
    if left < (asked or 1):
        message = f"{prompt} tokens of prompt and {asked or 1} of answer are more than the model's {served.context}"
        raise wrong(message, "max_tokens", TOO_LONG)
    return asked or min(left, default or settings.max_new_tokens, settings.max_new_tokens)


def require_given(settings: ServeSettings, tokens: int) -> None:
    """Refuse answers longer than the server gives.

    Raises:
        ApiError: more tokens were asked for.
    """
    if tokens > settings.max_new_tokens:
        raise wrong(f"max_tokens {tokens} is more than this server gives: {settings.max_new_tokens}", "max_tokens")


def _require_within(tokens: int, limit: int | None, param: str) -> None:
    if limit is not None and tokens > limit:
        raise ApiError(400, f"{tokens} tokens are more than the limit, {limit}", param=param, code=TOO_LONG)
    if tokens == 0:
        raise wrong("there is no token in it", param)
