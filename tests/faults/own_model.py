"""A model folder with code of its own, as people bring them, that goes wrong where a test wants it to.

What happens is in the variable OWN_MODEL_FAULT, `KIND:RANK:FORWARD:MARKER`: at that forward pass of the training on
that rank, once (MARKER is a file that appears with it).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

CODE = '''
import ctypes
import os
import sys

import torch
from transformers import LlamaForCausalLM


class OwnLlama(LlamaForCausalLM):
    """Llama, with a bug."""

    forwards = 0

    def forward(self, *arguments, **keywords):
        if self.training and torch.is_grad_enabled():
            OwnLlama.forwards += 1
            go_wrong(OwnLlama.forwards)
        return super().forward(*arguments, **keywords)


def go_wrong(forwards):
    kind, rank, forward, marker = (os.environ.get("OWN_MODEL_FAULT") or "none:0:0:").split(":", 3)
    if kind == "none" or os.environ["RANK"] != rank or forwards < int(forward) or os.path.exists(marker):
        return
    open(marker, "x").close()
    print("about to", kind, flush=True)
    if kind == "exit":
        os._exit(7)
    if kind == "crash":
        ctypes.string_at(0)
    if kind == "raise":
        return compute_own_loss({"weights": []})
    if kind == "memory":
        hoard = []
        while True:
            hoard.append(bytearray(b"x") * (32 << 20))
    if kind == "gpu_memory":
        hoard = []
        while True:
            hoard.append(torch.ones(1 << 30, dtype=torch.uint8, device="cuda"))


def compute_own_loss(outputs):
    return outputs["weights"][0] / len(outputs)
'''


def write_own_model(folder: Path, exported: Path) -> Path:
    """The exported model of a run as a folder whose class is `OwnLlama`."""
    shutil.copytree(exported, folder)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["OwnLlama"]
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.OwnLlama"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_own.py").write_text(CODE)
    return folder


def words(folder: Path) -> list[str]:
    """Overrides that train it on the demo's data."""
    return [
        "experiment=demo",
        "model=hf",
        f"model.model_name_or_path={folder}",
        "model.trust_remote_code=true",
    ]


def fault(kind: str, rank: int, forward: int, marker: Path) -> str:
    """The override that lets it go wrong."""
    return f"cluster.env.OWN_MODEL_FAULT='{kind}:{rank}:{forward}:{marker}'"
