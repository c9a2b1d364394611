"""Answers of the exported model to validation prompts, as anybody would get them: plain transformers, greedy."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import msgspec
import torch

from conf.files import write_atomically
from conf.schema import TaskName
from train.data.documents import Document, Documents
from train.data.tensors import to_device
from train.generation.generation import Generation, question_of
from train.generation.whole import Generator
from train.methods.adapter import base_of_adapter, load_adapter
from train.model.model import auto_class, placement
from train.tasks.seq_cls import SequenceClassification


def write_samples(path: Path, export: Path, start: str, documents: Documents, count: int, device: torch.device) -> int:
    """Answer the first `count` documents' prompts and write them to `path`, one JSON object a line; on one rank.

    A line has `prompt`, `expected`, `before` (the answer of the weights at `start`) and `answer`. Of a document that is
    all target, plain text, the first half is the prompt. Returns how many were answered.
    """
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(export, local_files_only=True)
    whole = base_of_adapter(export) or str(export)
    writes = AutoConfig.from_pretrained(whole, local_files_only=True).is_encoder_decoder
    loader = auto_class(TaskName.seq2seq_lm if writes else TaskName.causal_lm)
    chosen = [documents[number] for number in range(min(count, len(documents)))]

    def answered(weights: str, adapter: Path | None) -> list[dict[str, str]]:
        model = loader.from_pretrained(weights, dtype="auto", local_files_only=True, **placement(device))
        if adapter is not None:
            model = load_adapter(model, adapter)
        model = model.to(device).eval()
        generation = Generation(model, tokenizer, {}, 0, None)
        asked = Generator(model, device, in_step=False)
        lines = [_answered(asked, generation, tokenizer, document, writes) for document in chosen]
        del model, asked
        gc.collect()
        return lines

    after = answered(whole, None if whole == str(export) else export)
    before = answered(start, None)
    lines = [
        {"prompt": line["prompt"], "expected": line["expected"], "before": was["answer"], "answer": line["answer"]}
        for line, was in zip(after, before, strict=True)
    ]
    write_atomically(path, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return len(lines)


def write_labelled_samples(
    path: Path, export: Path, documents: Documents, count: int, device: torch.device, task: SequenceClassification
) -> int:
    """The same of a classifier: a line has `text`, `expected`, `answer` and where there is one its `probability`."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(export, local_files_only=True)
    loader = auto_class(TaskName.seq_cls)
    whole = base_of_adapter(export) or str(export)
    labels = {} if whole == str(export) else {"num_labels": len(task.labels.names), "ignore_mismatched_sizes": True}
    model = loader.from_pretrained(whole, dtype="auto", local_files_only=True, **labels, **placement(device))
    if whole != str(export):
        model = load_adapter(model, export)
    chosen = [documents[number] for number in range(min(count, len(documents)))]
    batch = to_device({**task.collate(chosen), "documents": tuple(range(len(chosen)))}, device)
    with torch.no_grad():
        judged = task.judge(model.to(device).eval(), batch)
    lines = []
    for document, prediction in zip(chosen, judged.predictions, strict=True):
        output = dict(prediction.output)
        text = str(tokenizer.decode(document.ids, skip_special_tokens=True)).strip()
        lines.append({"text": text, "expected": output.pop("reference"), "answer": output.pop("prediction"), **output})
    write_atomically(path, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    del model
    gc.collect()
    return len(lines)


def _answered(
    model: Generator, generation: Generation, tokenizer: Any, document: Document, writes: bool
) -> dict[str, str]:
    with torch.no_grad():
        ((prediction,), _) = generation.answer(model, [(0, document)])
    prompt = question_of(document, halves=not writes).prompt
    return {
        "prompt": str(tokenizer.decode(prompt, skip_special_tokens=True)).strip(),
        "expected": prediction.output["reference"],
        "answer": prediction.output["prediction"],
    }
