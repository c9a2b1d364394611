"""What most people run: the Trainer of transformers with a DeepSpeed configuration, started with torchrun.

Reads a folder made by `benchmarks.inputs`. The model is built from its configuration, which spares the Trainer the
loading of weights.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments


class Clock(TrainerCallback):  # type: ignore[misc]
    """Notes when each optimizer step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.time())


def collate(documents: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad to the longest document; labels are not shifted, since the model's own loss does that."""
    width = max(len(one["input_ids"]) for one in documents)

    def padded(name: str, fill: int) -> torch.Tensor:
        return torch.tensor([one[name] + [fill] * (width - len(one[name])) for one in documents])

    mask = torch.tensor([[1] * len(one["input_ids"]) + [0] * (width - len(one["input_ids"])) for one in documents])
    return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100), "attention_mask": mask}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("inputs", type=Path)
    parser.add_argument("result", type=Path)
    arguments = parser.parse_args()
    settings: dict[str, Any] = json.loads((arguments.inputs / "settings.json").read_text())
    arrays = np.load(arguments.inputs / "documents.npz")
    bounds = arrays["offsets"]
    rows = []
    for index in arrays["order"].flatten():
        part = slice(bounds[index], bounds[index + 1])
        ids, mask = arrays["ids"][part], arrays["mask"][part]
        rows.append({"input_ids": ids.tolist(), "labels": np.where(mask, ids, -100).tolist()})
    bf16 = settings["precision"] == "bf16"
    ranks = settings["ranks"]
    training = TrainingArguments(
        output_dir=str(arguments.result.parent / "trainer"),
        per_device_train_batch_size=settings["micro_batch_size"],
        gradient_accumulation_steps=arrays["order"].shape[1] // settings["micro_batch_size"] // ranks,
        max_steps=len(arrays["order"]),
        learning_rate=settings["learning_rate"],
        lr_scheduler_type="constant",
        bf16=bf16,
        gradient_checkpointing=settings["gradient_checkpointing"],
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to=[],
        logging_steps=1,
        disable_tqdm=True,
        deepspeed={  # the defaults that DeepSpeed's and transformers' guides give
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": "auto",
            "bf16": {"enabled": bf16},
            "zero_optimization": {"stage": settings["zero_stage"]},
            "zero_allow_untested_optimizer": True,
        },
    )
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(arguments.inputs / "model"))
    clock = Clock()
    trainer = Trainer(model=model, args=training, train_dataset=rows, data_collator=collate, callbacks=[clock])
    trainer.train()
    if trainer.is_world_process_zero():
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        arguments.result.write_text(json.dumps({"losses": losses, "ends": clock.ends}))


if __name__ == "__main__":
    main()
