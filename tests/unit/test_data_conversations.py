"""Conversations as people have them, through templates like those of well-known models: what the loss is on."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from conf.schema import DataConfig, LongRows
from train.data.block import Block, DataError, Row
from train.data.rows import shape_of
from train.data.tokenize import Encoder, Tokens
from train.data.tokenizer import complete_tokenizer, train_tokenizer

CHATML = (
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}{{ c.function.arguments | tojson }}</tool_call>"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% else %}"
    "{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "llama 3": LLAMA3, "mistral": MISTRAL, "gemma": GEMMA}
ENDINGS = {"chatml": "<|im_end|>\n", "llama 3": "<|eot_id|>", "mistral": "<|end|>", "gemma": "<end_of_turn>\n"}

TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Ciao."},
]
WEIGHTED = [TALK[0], {**TALK[1], "weight": 0}, TALK[2], {**TALK[3], "weight": 1}]
SHAREGPT = [{"from": "human" if turn["role"] == "user" else "gpt", "value": turn["content"]} for turn in TALK]
PARTS = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in TALK]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALLS = [
    {"role": "user", "content": "Rain?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"in": "Oslo"}'}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "yes"},
    {"role": "assistant", "content": "Yes."},
]
OLDER_CALLS = [
    CALLS[0],
    {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"in": "Oslo"}'}},
    {"role": "function", "name": "weather", "content": "yes"},
    CALLS[3],
]
SHAREGPT_CALLS = [
    {"from": "human", "value": "Rain?"},
    {"from": "function_call", "value": '{"name": "weather", "arguments": {"in": "Oslo"}}'},
    {"from": "observation", "value": "yes"},
    {"from": "gpt", "value": "Yes."},
]


def encode(template: str | None, row: dict[str, Any], **options: Any) -> tuple[Any, Tokens]:
    tokenizer = train_tokenizer(["Hi Hello. Bye Ciao."], 260)
    complete_tokenizer(tokenizer, template)
    data = DataConfig(**options)
    encoder = Encoder(tokenizer, shape_of(row, data, "here"), data)
    return tokenizer, encoder.encode(Block("file", 0, rows=[Row(1, row)]))


def learnt(template: str | None, row: dict[str, Any], **options: Any) -> str:
    tokenizer, tokens = encode(template, row, **options)
    assert not tokens.bad
    return str(tokenizer.decode(tokens.ids[tokens.mask]))


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize(
    ("row", "answers"),
    [
        pytest.param({"messages": TALK}, ["Hello.", "Ciao."], id="messages"),
        pytest.param({"messages": WEIGHTED}, ["Ciao."], id="weight 0"),
        pytest.param({"messages": PARTS}, ["Hello.", "Ciao."], id="content in parts"),
        pytest.param({"conversations": SHAREGPT}, ["Hello.", "Ciao."], id="sharegpt"),
        pytest.param({"instruction": "Hi", "input": "", "output": "Hello."}, ["Hello."], id="alpaca without input"),
        pytest.param({"instruction": "Hi", "input": "you", "output": "Hello."}, ["Hello."], id="alpaca with input"),
        pytest.param({"prompt": "Hi", "completion": "Hello."}, ["Hello."], id="prompt and completion"),
    ],
)
def test_only_the_assistants_words_are_learnt(name: str, row: dict[str, Any], answers: list[str]) -> None:
    expected = [(" " if name == "mistral" else "") + answer + ENDINGS[name] for answer in answers]
    found = learnt(TEMPLATES[name], row)
    assert found.removesuffix("<|end|>") == "".join(expected).removesuffix("<|end|>")


def test_an_input_of_alpaca_is_part_of_the_question() -> None:
    tokenizer, tokens = encode(CHATML, {"instruction": "Hi", "input": "you", "output": "Hello."})
    assert "user\nHi\n\nyou<|im_end|>" in tokenizer.decode(tokens.ids)


def test_a_column_system_comes_first() -> None:
    tokenizer, tokens = encode(CHATML, {"system": "Be brief.", "conversations": SHAREGPT})
    assert tokenizer.decode(tokens.ids).startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi")
    assert tokens.mask.sum() > 0


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"messages": CALLS, "tools": [TOOL], "parallel_tool_calls": False}, id="tools"),
        pytest.param({"messages": OLDER_CALLS, "functions": [TOOL["function"]]}, id="functions"),
        pytest.param({"conversations": SHAREGPT_CALLS, "tools": json.dumps([TOOL])}, id="sharegpt"),
    ],
)
def test_tools_reach_the_template_and_calls_are_learnt(row: dict[str, Any]) -> None:
    tokenizer, tokens = encode(CHATML, row)
    text = tokenizer.decode(tokens.ids)
    assert '"name": "weather"' in text.split("<|im_start|>user")[0]
    call = '<tool_call>weather{"in": "Oslo"}</tool_call><|im_end|>\n'
    assert tokenizer.decode(tokens.ids[tokens.mask]).removesuffix("<|end|>") == call + "Yes.<|im_end|>\n"


def test_a_template_that_leaves_tools_out_is_refused() -> None:
    with pytest.raises(DataError, match="file:1: rows have tools, which the chat template leaves out"):
        encode(LLAMA3, {"messages": TALK, "tools": [TOOL]})


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        pytest.param([TALK[0], {**TALK[1], "weight": 2}], "weight is 2, 0 or 1 is expected", id="weight"),
        pytest.param([TALK[0]], "no assistant's turn", id="no answer"),
        pytest.param([{"content": "x"}, TALK[1]], "message 1 of column 'messages' has no role", id="no role"),
        pytest.param(
            [{"role": "user", "content": [{"type": "image_url"}]}, TALK[1]],
            "kind image_url, text is expected",
            id="image",
        ),
        pytest.param(
            [TALK[0], {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            "the arguments of f: not JSON",
            id="arguments",
        ),
        pytest.param([TALK[0], {"role": "assistant", "tool_calls": ["f"]}], "no function with a name", id="call"),
        pytest.param("Hi", "is not a list of messages", id="text"),
    ],
)
def test_a_broken_conversation_says_what_is_wrong(messages: Any, reason: str) -> None:
    _, tokens = encode(CHATML, {"messages": messages})
    [bad] = tokens.bad
    assert reason in str(bad)
    assert str(bad).startswith("file:1: ")


@pytest.mark.parametrize("name", ["mistral", "gemma"])
def test_a_role_that_a_template_refuses_is_a_broken_row(name: str) -> None:
    _, tokens = encode(TEMPLATES[name], {"messages": [{"role": "system", "content": "x"}, *TALK]})
    assert [row.reason.startswith("the chat template refuses it") for row in tokens.bad] == [True]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []},
    ],
    ids=["dpo", "openai"],
)
def test_preferences_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="a better and a worse answer"):
        shape_of(row, DataConfig(), "here")
    if "chosen" in row:
        assert learnt(None, row, columns={"prompt": "prompt", "response": "chosen"}) == "b<|end|>"


def test_split_text_is_learnt_once_and_whole() -> None:
    text = "".join(chr(97 + number % 26) for number in range(50))
    _, whole = encode(None, {"text": text})
    _, tokens = encode(None, {"text": text}, max_length=12, on_long=LongRows.split)
    begin = whole.ids[:1].tolist()
    pieces = [part.tolist() for part in _cut(tokens.ids, tokens.lengths)]
    masks = [part.tolist() for part in _cut(tokens.mask, tokens.lengths)]
    assert all(piece[:1] == begin and len(piece) <= 12 for piece in pieces)
    assert [
        one for piece, mask in zip(pieces, masks, strict=True) for one, of in zip(piece, mask, strict=True) if of
    ] == (whole.ids[whole.mask].tolist())
    assert all(piece[1] == before[-1] for before, piece in itertools.pairwise(pieces))
    assert len(set(tokens.columns["row_hash"].tolist())) == len(pieces) > 4
    assert tokens.columns["line"].tolist() == [1] * len(pieces)


def test_only_plain_text_is_split() -> None:
    with pytest.raises(DataError, match="on_long=split is for plain text, not for the format prompt"):
        encode(None, {"prompt": "a", "response": "b"}, on_long=LongRows.split)


def _cut(array: Any, lengths: Any) -> list[Any]:
    ends = lengths.cumsum()
    return [array[end - length : end] for end, length in zip(ends, lengths, strict=True)]
