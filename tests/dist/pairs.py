"""A toy of texts and answers for encoder-decoder models: how often and which word, answered in capitals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

WORDS = ("sun", "sea", "oak", "ice", "owl", "fox", "hay", "jam")
NUMBERS = ("once", "twice")
SHAPE = {
    "d_model": 48,
    "d_kv": 16,
    "d_ff": 96,
    "num_layers": 1,
    "num_decoder_layers": 1,
    "num_heads": 3,
    "dropout_rate": 0.0,
    "feed_forward_proj": "gated-gelu",
    "initializer_factor": 0.5,
}


def rows(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """So many sources with their targets: `twice sun` is answered by `SUN SUN`."""
    generator = np.random.default_rng(seed)
    pairs = zip(generator.integers(0, 2, count), generator.integers(0, len(WORDS), count), strict=True)
    return [(f"{NUMBERS[n]} {WORDS[w]}", " ".join([WORDS[w].upper()] * (n + 1))) for n, w in pairs]


def write_tokenizer(folder: Path) -> Any:
    """A tokenizer of whole words that ends each text, as T5's does; returned as transformers loads it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", *NUMBERS, *WORDS, *(word.upper() for word in WORDS)]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **names)
    made.save_pretrained(folder)
    return made


def write_t5(folder: Path, **changes: Any) -> Path:
    """A small random T5 in fp32 with its tokenizer, as a Hugging Face folder."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    vocabulary = len(write_tokenizer(folder))
    torch.manual_seed(1)
    config = T5Config(
        vocab_size=vocabulary, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, **SHAPE | changes
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def write_pairs(folder: Path, tokenizer: Any, pairs: list[tuple[str, str]]) -> Any:
    """The documents of these texts; returns the `Split` that describes them."""
    from conf.schema import DataConfig
    from train.data.block import Block, Row
    from train.data.documents import Writer
    from train.data.pairs import PairEncoder
    from train.data.prepared import Part, Split
    from train.data.rows import shape_of

    folder.mkdir(parents=True)
    given = [Row(line, {"prompt": source, "response": target}) for line, (source, target) in enumerate(pairs, 1)]
    config = DataConfig()
    found = PairEncoder(tokenizer, shape_of(given[0].columns, config, ""), config).encode(Block("", 0, rows=given))
    with Writer(folder, len(tokenizer)) as writer:
        writer.write(found.ids, found.mask, found.lengths)
    count, longest = len(found.lengths), int(found.lengths.max())
    part = Part("", str(folder), count, len(found.ids), int(found.mask.sum()), longest, count, 0, 0, 0, 0)
    return Split.of([part])
