"""What rows mean: formats, column names, chat templates, and which text is a target."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from conf.schema import DataConfig, DataFormat, LongRows
from train.data.block import Block, DataError, Row, RowError
from train.data.conversations import turns
from train.data.rows import segments, shape_of
from train.data.tokenize import Encoder, Tokens
from train.data.tokenizer import complete_tokenizer, train_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORGETFUL = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
REWRITING = "{% for m in messages %}{{ loop.length }}{{ m.role }}: {{ m.content }}\n{% endfor %}"

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Ciao."},
]


def renderer(template: str) -> Any:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=train_tokenizer(["x"], 260).backend_tokenizer)
    tokenizer.chat_template = template
    return lambda messages, opened: tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=opened
    )


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        ({"prompt": "a", "response": "b"}, {}, [("a\n", False), ("b", True)]),
        ({"prompt": "a", "completion": "b"}, {}, [("a\n", False), ("b", True)]),
        ({"q": "a", "r": "b"}, {"columns": {"prompt": "q", "response": "r"}}, [("a\n", False), ("b", True)]),
        ({"q": "a", "r": "b"}, {"columns": {"prompt": "q", "completion": "r"}}, [("a\n", False), ("b", True)]),
        (
            {"prompt": "a", "response": "b"},
            {"prompt_template": "Q: {prompt}\nA: "},
            [("Q: a\nA: ", False), ("b", True)],
        ),
        (
            {"prompt": "{prompt}", "response": "{x}"},
            {"prompt_template": "<{prompt}>"},
            [("<{prompt}>", False), ("{x}", True)],
        ),
        ({"prompt": "a", "response": "b"}, {"completion_only_loss": False}, [("a\n", True), ("b", True)]),
        ({"instruction": "a", "input": "i", "output": "b"}, {}, [("a\n\ni\n", False), ("b", True)]),
        ({"instruction": "a", "input": "", "output": "b"}, {}, [("a\n", False), ("b", True)]),
        ({"instruction": "a", "output": "b"}, {}, [("a\n", False), ("b", True)]),
        ({"text": "a"}, {}, [("a", True)]),
        ({"body": "a"}, {"columns": {"text": "body"}}, [("a", True)]),
        ({"prompt": "p", "response": "r", "text": "t"}, {"format": DataFormat.text}, [("t", True)]),
    ],
)
def test_formats_without_a_chat_template(
    row: dict[str, Any], options: dict[str, Any], expected: list[tuple[str, bool]]
) -> None:
    config = DataConfig(**options)
    assert segments(row, shape_of(row, config, "here"), config, None) == expected


@pytest.mark.parametrize(
    ("row", "options", "words"),
    [
        ({"question": "a", "answer": "b"}, {}, "columns question, answer do not make a known format"),
        ({"question": "a"}, {"columns": {"prompt": "frage"}}, "no column 'frage' (data.columns.prompt)"),
        ({"prompt": "a", "response": "b"}, {"format": DataFormat.alpaca}, "alpaca: instruction, input, output"),
    ],
)
def test_columns_that_fit_no_format_are_named(row: dict[str, Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as raised:
        shape_of(row, DataConfig(**options), "data.jsonl:1")
    assert words in str(raised.value)
    assert "data.jsonl:1" in str(raised.value)


PROMPT = {"prompt": "a", "response": "b"}
TALK = {"messages": CONVERSATION}


@pytest.mark.parametrize(
    ("first", "row", "reason"),
    [
        (PROMPT, {"prompt": "a"}, "no column 'response'"),
        (PROMPT, {"prompt": "a", "response": 3}, "column 'response' is int, text is expected"),
        (PROMPT, {"prompt": "a", "response": None}, "column 'response' is NoneType, text is expected"),
        (PROMPT, {"prompt": " \n", "response": "b"}, "column 'prompt' is empty"),
        ({"text": "a"}, {"text": ""}, "column 'text' is empty"),
        (
            {"instruction": "a", "input": "", "output": "b"},
            {"instruction": "a", "input": 1, "output": "b"},
            "'input' is int",
        ),
        (TALK, {"messages": []}, "not a list of messages"),
        (TALK, {"messages": ["Hi"]}, "not a list of messages"),
        (TALK, {"messages": [{"content": "Hi"}]}, "message 1 of column 'messages' has no role"),
        (TALK, {"messages": CONVERSATION[:2]}, "no assistant's turn"),
        (TALK, {"messages": [*CONVERSATION[:2], {"role": "assistant", "content": ""}]}, "empty assistant's turn"),
        (TALK, {"messages": [{"role": "user", "content": 5}]}, "content is int"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(first: dict[str, Any], row: dict[str, Any], reason: str) -> None:
    config = DataConfig()
    with pytest.raises(RowError) as raised:
        segments(row, shape_of(first, config, "here"), config, renderer(CHATML))
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("template", "targets"),
    [
        (CHATML, ["Hello.<|im_end|>\n", "Ciao.<|im_end|>\n"]),
        (FORGETFUL, ["Hello.</s>", "<think></think>Ciao.</s>"]),
    ],
    ids=["chatml", "renders-last-turn-differently"],
)
def test_assistants_turns_are_the_targets(template: str, targets: list[str]) -> None:
    render = renderer(template)
    pieces = turns(CONVERSATION, render)
    assert [text for text, target in pieces if target] == targets
    assert "".join(text for text, _ in pieces) == render(CONVERSATION, False)


def test_sharegpt_and_prompts_go_through_the_template() -> None:
    render, config = renderer(CHATML), DataConfig()
    talk = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}
    pair = {"prompt": "Hi", "response": "Hello."}
    expected = [("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", False), ("Hello.<|im_end|>\n", True)]
    assert [segments(row, shape_of(row, config, ""), config, render) for row in (talk, pair)] == [expected] * 2


def test_a_template_that_rewrites_what_came_before_is_refused() -> None:
    with pytest.raises(DataError, match=r"message 3, .*give data\.chat_template"):
        turns(CONVERSATION, renderer(REWRITING))


def test_messages_without_a_template_are_refused() -> None:
    with pytest.raises(DataError, match=r"give data\.chat_template"):
        segments(TALK, shape_of(TALK, DataConfig(), ""), DataConfig(), None)


def encode(tokenizer: Any, row: dict[str, Any], **options: Any) -> Tokens:
    config = DataConfig(**options)
    rows = [Row(n, row) for n in range(1, 4)]
    return Encoder(tokenizer, shape_of(row, config, ""), config).encode(Block("f", 0, rows=rows))


def spaced_tokenizer() -> Any:
    """A tokenizer that puts a space before every text, as Llama 2's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = {letter: number for number, letter in enumerate("\u2581abpr:\n")}
    backend = Tokenizer(models.BPE(vocab={**letters, "</s>": 7}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


def byte_tokenizer() -> Any:
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer()


@pytest.mark.parametrize(
    ("tokenizer", "whole"),
    [
        (lambda: train_tokenizer(["a b p r"], 260), "<|begin|>ap\nbr<|end|>"),
        (spaced_tokenizer, "ap\nbr</s>"),
        (byte_tokenizer, "ap\nbr</s>"),
    ],
    ids=["byte-level", "space-before", "slow"],
)
def test_a_document_is_prompt_response_and_end(tokenizer: Any, whole: str) -> None:
    made = tokenizer()
    tokens = encode(made, {"prompt": "ap", "response": "br"})
    ids, mask = tokens.ids[: tokens.lengths[0]], tokens.mask[: tokens.lengths[0]]
    assert tokens.rows == len(tokens.lengths) == 3
    assert made.decode(ids) == whole
    assert made.decode(ids[mask]).lstrip() == "br" + made.eos_token


def test_of_plain_text_all_but_the_first_token_is_a_target() -> None:
    tokens = encode(byte_tokenizer(), {"text": "abc"})
    assert tokens.mask.tolist() == [False, True, True, True] * 3


def test_a_template_that_ends_turns_with_the_end_token_gets_no_second_one() -> None:
    tokenizer = train_tokenizer(["abc"], 260)
    complete_tokenizer(tokenizer, CHATML.replace("<|im_end|>", "<|end|>"))
    tokens = encode(tokenizer, {"messages": CONVERSATION})
    ids, mask = tokens.ids[: tokens.lengths[0]], tokens.mask[: tokens.lengths[0]]
    assert tokenizer.decode(ids[mask]) == "Hello.<|end|>\nCiao.<|end|>\n"
    assert tokenizer.decode(ids).count("<|end|>") == 5


@pytest.mark.parametrize(
    ("on_long", "limit", "lengths", "counts"),
    [
        (LongRows.truncate, 9, [9, 9, 9], (3, 0, 0)),
        (LongRows.truncate, 5, [], (3, 0, 3)),
        (LongRows.drop, 9, [], (0, 3, 0)),
        (LongRows.drop, 13, [13, 13, 13], (0, 0, 0)),
    ],
)
def test_long_documents(on_long: LongRows, limit: int, lengths: list[int], counts: tuple[int, int, int]) -> None:
    # 1 begin + 5 of the prompt and its newline + 6 + 1 end
    tokens = encode(
        train_tokenizer(["x"], 260), {"prompt": "p123", "response": "abcdef"}, max_length=limit, on_long=on_long
    )
    assert tokens.lengths.tolist() == lengths
    assert (tokens.truncated, tokens.dropped, tokens.without_targets) == counts


def test_long_documents_can_be_an_error() -> None:
    with pytest.raises(DataError, match=r"f:1: 13 tokens are more than data\.max_length=9"):
        encode(
            train_tokenizer(["x"], 260),
            {"prompt": "p123", "response": "abcdef"},
            max_length=9,
            on_long=LongRows.error,
        )


def test_tokenizers_are_completed_and_the_same_text_trains_the_same() -> None:
    first, second = (train_tokenizer(["the cat sat on the mat"] * 9, 300) for _ in range(2))
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()
    assert complete_tokenizer(first, None) == []
    first.pad_token = None
    assert "no pad token" in complete_tokenizer(first, None)[0]
    assert first.pad_token_id == first.eos_token_id
    first.eos_token = None
    with pytest.raises(DataError, match="no end token"):
        complete_tokenizer(first, None)
    with pytest.raises(DataError, match="nearest: 259"):
        train_tokenizer(["x"], 100)
