"""Hugging Face's Trainer under Muster: a callback hands its metrics over and stops it, the rest is the Trainer's."""

import json
import os
import sys
import time
from pathlib import Path

import torch
from torch import distributed as dist
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

STOP, METRICS, FOLDER = (Path(os.environ[f"MUSTER_{name}"]) for name in ("STOP", "METRICS", "CHECKPOINTS"))


class UnderMuster(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        seen = torch.tensor(int(state.is_world_process_zero and STOP.exists()))
        if dist.is_initialized():
            dist.all_reduce(seen)
        if seen:
            control.should_save = control.should_training_stop = True

    def on_log(self, args, state, control, logs=None, **_):
        if state.is_world_process_zero and logs and "loss" in logs:
            line = {"step": state.global_step, "attempt": int(os.environ["MUSTER_ATTEMPT"]), "time": time.time()}
            with METRICS.open("a") as file:
                file.write(json.dumps(line | {"train/loss": logs["loss"]}) + "\n")


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        ids = (torch.arange(16) + index) % 32
        return {"input_ids": ids, "labels": ids}


arguments = TrainingArguments(
    output_dir=str(FOLDER),
    max_steps=int(sys.argv[1]),
    per_device_train_batch_size=4,
    logging_steps=1,
    save_steps=5,
    report_to=[],
    use_cpu=True,
    disable_tqdm=True,
    ddp_backend="gloo",
)
model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=16, n_embd=32, n_layer=1, n_head=2))
trainer = Trainer(model, arguments, train_dataset=Numbers(), callbacks=[UnderMuster()])
newest = get_last_checkpoint(FOLDER) if FOLDER.is_dir() else None
trainer.train(resume_from_checkpoint=newest)
if torch.distributed.is_initialized():
    torch.distributed.barrier()  # gloo may abort a process that leaves while another still talks to it
    torch.distributed.destroy_process_group()
