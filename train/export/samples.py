"""Answers of the exported model to validation prompts, as anybody would get them: plain transformers, greedy."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import msgspec
import torch

from conf.files import write_atomically
from train.data.documents import Document, Documents
from train.model.model import placement

MORE_TOKENS = 16
"""Tokens an answer may be longer than the expected one, to show where a model does not stop."""
MOST_TOKENS = 256


def write_samples(path: Path, export: Path, documents: Documents, count: int, device: torch.device) -> int:
    """Answer the first `count` documents' prompts and write them to `path`, one JSON object a line; on one rank.

    A line has `prompt`, `expected` and `answer`. Of a document that is all target, plain text, the first half is the
    prompt. Returns how many were answered.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(export, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(export, dtype="auto", local_files_only=True, **placement(device))
    model = model.to(device).eval()
    lines = [_answered(model, tokenizer, documents[number]) for number in range(min(count, len(documents)))]
    write_atomically(path, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    del model
    gc.collect()
    return len(lines)


def _answered(model: Any, tokenizer: Any, document: Document) -> dict[str, str]:
    prompt, expected = _parts(document)
    ids = torch.tensor([prompt], device=model.device)
    with torch.no_grad():
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=min(MOST_TOKENS, len(expected) + MORE_TOKENS),
            eos_token_id=_stops(model, tokenizer),
            pad_token_id=tokenizer.pad_token_id,
        )
    answer = output[0, len(prompt) :].tolist()
    return {
        name: tokenizer.decode(part, skip_special_tokens=True).strip()
        for name, part in (("prompt", prompt), ("expected", expected), ("answer", answer))
    }


def _parts(document: Document) -> tuple[list[int], list[int]]:
    """Token ids of what is asked and of what is expected: the first stretch of targets."""
    ids = document.ids.tolist()
    first = len(document.prompt)
    if first <= 1:
        first = max(1, len(ids) // 2)
    last = first
    while last < len(ids) and document.target_mask[last]:
        last += 1
    return ids[:first], ids[first:last]


def _stops(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: the model's own and the tokenizer's."""
    own = model.generation_config.eos_token_id
    found = [own] if isinstance(own, int) else list(own or [])
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in found:
        found.append(tokenizer.eos_token_id)
    return found
