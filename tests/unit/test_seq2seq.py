"""Documents and tensors of encoder-decoder models, and sampling that depends on the document alone."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conf.schema import DataConfig, LongRows
from train.data.batches import longest_pairs
from train.data.block import Block, DataError, Row
from train.data.documents import Document, Documents, Writer
from train.data.pairs import PairEncoder
from train.data.rows import shape_of
from train.data.tensors import IGNORED
from train.generation.generation import GenerationError, closing_tokens, question_of, with_options
from train.generation.sampling import processors, seed_of
from train.tasks.seq2seq_lm import SequenceToSequence, shift_of

ROWS = [
    {"document": "abc", "summary": "x"},
    {"document": "abcdefghijk", "summary": "wxyz"},
    {"document": "abc", "summary": "tuvwxyz"},
]


def tokens_of(row_list: list[dict[str, str]], **options: Any) -> Any:
    from transformers import ByT5Tokenizer

    config = DataConfig(prompt_template="s: {prompt}", max_length=10, max_target_length=6, **options)
    encoder = PairEncoder(ByT5Tokenizer(), shape_of(row_list[0], config, ""), config)
    return encoder.encode(Block("f", 0, rows=[Row(line, row) for line, row in enumerate(row_list, 1)]))


def text(ids: Any) -> str:
    """ByT5's ids are bytes plus 3; 1 is its end."""
    return "".join("|" if token == 1 else chr(token - 3) for token in ids)


def test_source_and_target_are_as_the_tokenizer_makes_them() -> None:
    found = tokens_of(ROWS)
    parts = np.split(found.ids, np.cumsum(found.lengths)[:-1])
    masks = np.split(found.mask, np.cumsum(found.lengths)[:-1])
    split = [(text(ids[~mask]), text(ids[mask])) for ids, mask in zip(parts, masks, strict=True)]
    assert split == [("s: abc|", "x|"), ("s: abcdef|", "wxyz|"), ("s: abc|", "tuvwx|")]
    assert found.truncated == 2


def test_over_long_pairs_are_dropped_or_an_error_by_either_side() -> None:
    found = tokens_of(ROWS, on_long=LongRows.drop)
    assert (len(found.lengths), found.dropped) == (1, 2)
    with pytest.raises(DataError, match=r"f:2: a source of 15 tokens is more than data.max_length=10"):
        tokens_of(ROWS, on_long=LongRows.error)
    with pytest.raises(DataError, match=r"f:1: a target of 8 tokens is more than data.max_target_length=6"):
        tokens_of(ROWS[2:], on_long=LongRows.error)


def test_rows_without_an_answer_do_not_fit_the_task() -> None:
    with pytest.raises(DataError, match="task=seq2seq_lm"):
        tokens_of([{"text": "a"}])


def document(source: list[int], target: list[int]) -> Document:
    return Document(np.array(source + target), np.arange(len(source) + len(target)) >= len(source))


def small_t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=16, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    return T5ForConditionalGeneration(config).eval()


def test_a_model_that_is_let_go_dies_whoever_still_collates() -> None:
    model = small_t5()
    drawn = torch.get_rng_state()
    task = SequenceToSequence(0, shift_of(model, 0), None, ())
    assert torch.equal(torch.get_rng_state(), drawn)
    known = weakref.ref(model)
    del model
    gc.collect()
    assert known() is None
    assert task.collate([document([5, 1], [7, 8, 1])])["decoder_input_ids"].tolist() == [[0, 7, 8]]


def test_collate_pads_and_shifts_as_the_model_does() -> None:
    model = small_t5()
    task = SequenceToSequence(0, shift_of(model, 0), None, ())
    batch = task.collate([document([5, 6, 1], [7, 1]), document([8, 1], [9, 10, 1])])
    assert batch["input_ids"].tolist() == [[5, 6, 1], [8, 1, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[7, 1, IGNORED], [9, 10, 1]]
    assert batch["decoder_input_ids"].tolist() == [[0, 7, 1], [0, 9, 10]]
    own = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]).loss
    assert float(task.loss_sum(model, batch).detach()) / 5 == pytest.approx(float(own.detach()), rel=1e-6)
    empty = task.collate([])
    assert float(task.loss_sum(model, empty).detach()) == 0.0


def test_a_model_without_a_shift_of_its_own_starts_from_its_start_token() -> None:
    class Model:
        class config:  # noqa: N801 - the attribute's name in transformers
            decoder_start_token_id = 2

    assert shift_of(Model(), 1)(torch.tensor([[4, 5, IGNORED]])).tolist() == [[2, 4, 5]]


def test_the_rehearsal_joins_the_longest_sources_and_targets(tmp_path: Path) -> None:
    lengths, masks = [], []
    for source, target in [(9, 1), (2, 7), (3, 3)]:
        lengths.append(source + target)
        masks += [False] * source + [True] * target
    with Writer(tmp_path, 100) as writer:
        writer.write(np.arange(sum(lengths)), np.array(masks), np.array(lengths, np.int32))
    pairs = longest_pairs(Documents.open(tmp_path), 2)
    assert [(len(pair.prompt), int(pair.target_mask.sum())) for pair in pairs] == [(9, 7), (3, 3)]


@pytest.mark.parametrize(
    ("mask", "prompt", "expected"),
    [
        ([0, 0, 1, 1, 0, 0, 1], 2, 2),
        ([0, 1, 1, 1, 1, 1], 3, 3),
        ([0, 0, 0, 1], 3, 1),
    ],
    ids=["first turn", "plain text", "one token"],
)
def test_a_question_ends_before_the_first_target(mask: list[int], prompt: int, expected: int) -> None:
    question = question_of(Document(np.arange(len(mask)), np.array(mask, np.bool_)))
    assert (len(question.prompt), len(question.expected)) == (prompt, expected)


def test_sampling_follows_the_document_and_the_distribution() -> None:
    from transformers import GenerationConfig

    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    config = GenerationConfig(do_sample=True, temperature=0.5, top_k=3)

    def drawn(documents: list[int]) -> list[int]:
        steps = processors(config, [seed_of(1, number) for number in documents], torch.device("cpu"))
        result = scores.repeat(len(documents), 1)
        for step in steps:
            result = step(torch.zeros(len(documents), 1, dtype=torch.long), result)
        return result.argmax(1).tolist()

    many = drawn(list(range(4000)))
    assert many[17] == drawn([17])[0]
    assert many[3:9] == drawn(list(range(3, 9)))
    wanted = torch.softmax(scores[0, :3] / 0.5, 0)
    shares = torch.bincount(torch.tensor(many), minlength=4) / len(many)
    assert shares[3] == 0
    assert torch.allclose(shares[:3], wanted, atol=0.03)


def test_generation_options_are_transformers_own() -> None:
    from transformers import GenerationConfig

    base = GenerationConfig(num_beams=4, length_penalty=2.0, eos_token_id=1)
    assert with_options(base, {"num_beams": 1}).length_penalty is None
    assert with_options(base, {"max_new_tokens": 9}).to_dict()["max_new_tokens"] == 9
    contradictory = GenerationConfig(temperature=0.9, eos_token_id=1)
    assert with_options(contradictory, {}).temperature is None
    with pytest.raises(GenerationError, match="num_beems"):
        with_options(base, {"num_beems": 4})


def test_answers_end_where_the_expected_ones_do() -> None:
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer(extra_ids=0, additional_special_tokens=["<turn>"])
    turn, newline = tokenizer.convert_tokens_to_ids("<turn>"), 13
    assert closing_tokens(np.array([70, 71, turn, newline]), tokenizer) == {turn}
    assert closing_tokens(np.array([70, 71, 72]), tokenizer) == set()
    assert closing_tokens(np.array([70, 1]), tokenizer) == {1}
