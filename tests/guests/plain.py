"""A training loop that knows nothing of Muster but its variables: a least-squares fit, saved every five steps."""

import argparse
import json
import os
import time
from pathlib import Path

import torch
from torch import distributed as dist

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--nap", type=float, default=0.0, help="seconds of a step")
parser.add_argument("--fail-at", type=int, default=0, help="step at which rank 1 raises in the first attempt")
options = parser.parse_args()

dist.init_process_group("gloo")
rank, attempt = dist.get_rank(), int(os.environ["MUSTER_ATTEMPT"])
stop, metrics, folder = (Path(os.environ[f"MUSTER_{name}"]) for name in ("STOP", "METRICS", "CHECKPOINTS"))
checkpoint = folder / "plain.pt"
weights, done = torch.zeros(4), 0
if checkpoint.exists():
    state = torch.load(checkpoint, weights_only=True)
    weights, done = state["weights"], state["step"]


def save(step: int) -> None:
    if rank == 0:
        checkpoint.parent.mkdir(exist_ok=True)
        beside = checkpoint.with_suffix(".new")
        torch.save({"weights": weights, "step": step}, beside)
        beside.rename(checkpoint)


def asked_to_stop() -> bool:
    """Rank 0 looks for the file, and all ranks learn what it saw: they stop at the same step."""
    seen = torch.tensor(int(rank == 0 and stop.exists()))
    dist.all_reduce(seen)
    return bool(seen)


while done < options.steps and not asked_to_stop():
    done += 1
    if done == options.fail_at and rank == 1 and attempt == 0:
        raise ValueError("a mistake of the program's own")
    gradient = 2 * (weights - 1)
    dist.all_reduce(gradient, op=dist.ReduceOp.SUM)
    weights -= options.lr * gradient / dist.get_world_size()
    time.sleep(options.nap)
    if rank == 0:
        line = {
            "step": done,
            "attempt": attempt,
            "time": time.time(),
            "train/loss": float((weights - 1).square().sum()),
        }
        with metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")
    if done % 5 == 0:
        save(done)
save(done)
dist.destroy_process_group()
