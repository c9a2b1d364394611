"""What most people run to fine-tune a classifier: the Trainer of transformers, one process with all cores.

Loads the pre-trained weights, pads each batch to its longest text, trains, and classifies the test rows once.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)


def rows(path: Path, labels: dict[str, int], tokenizer: Any) -> list[dict[str, Any]]:
    """Encoded rows of a CSV file with `text,category`; new labels are numbered as they come."""
    with path.open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    encoded = tokenizer([row["text"] for row in read], truncation=True, max_length=128)["input_ids"]
    found = []
    for row, ids in zip(read, encoded, strict=True):
        found.append({"input_ids": ids, "labels": labels.setdefault(row["category"], len(labels))})
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    labels: dict[str, int] = {}
    train = rows(arguments.data / "train.csv", labels, tokenizer)
    test = rows(arguments.data / "test.csv", labels, tokenizer)
    model = AutoModelForSequenceClassification.from_pretrained(arguments.model, num_labels=len(labels))
    training = TrainingArguments(
        output_dir=str(arguments.result.parent / "trainer"),
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        num_train_epochs=arguments.epochs,
        learning_rate=2e-4,
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        seed=42,
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
    )
    trainer = Trainer(model=model, args=training, train_dataset=train, data_collator=DataCollatorWithPadding(tokenizer))
    started = time.perf_counter()
    trainer.train()
    train_s = time.perf_counter() - started
    guesses = np.argmax(trainer.predict(test).predictions, axis=-1)
    truth = [row["labels"] for row in test]
    result: dict[str, Any] = {
        "train_s": train_s,
        "accuracy": float(accuracy_score(truth, guesses)),
        "f1_macro": float(f1_score(truth, guesses, average="macro")),
        "host_peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20),
    }
    result["curve"] = [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    if torch.cuda.is_available():
        result["gpu_peak_gib"] = torch.cuda.max_memory_allocated() / (1 << 30)
    arguments.result.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
