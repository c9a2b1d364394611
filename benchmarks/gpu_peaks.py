"""Peaks of real runs on this machine's GPUs against their plans: torch's own count, and none that "fits" and does not.

Needs a GPU; without one it says so and writes nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, machine

OUTSIDE = frozenset({"CUDA context", "NCCL", "fragments"})
"""Terms that torch's count of allocated bytes does not see."""

MODELS = ("llama3.2-1b", "qwen3-0.6b", "gemma3-1b")
STEPS = 2


def configurations() -> Iterator[list[str]]:
    """Three models, each with checkpointing of all, every second and no layer, two lengths, LoRA and fp32."""
    for model in MODELS:
        base = [f"model={model}", "model.init=random", "data=demo", "model.tokenizer_name_or_path=train"]
        base.append("model.tokenizer_vocab_size=512")
        yield [*base, "data.max_length=2048"]
        yield [*base, "data.max_length=8192", "train.gradient_checkpointing=true"]
        yield [*base, "data.max_length=4096", "train.gradient_checkpointing=true", *every(2)]
        yield [*base, "data.max_length=2048", "parallel=zero2"]
        yield [*base, "data.max_length=2048", "method=lora"]
        yield [*base, "data.max_length=1024", "train.precision=fp32"]


def every(interval: int) -> list[str]:
    """Every so many layers computed again."""
    return [f"train.gradient_checkpointing_interval={interval}"]


def main(runs: int) -> None:
    """Each configuration once, on all GPUs of this machine."""
    import torch

    if not torch.cuda.is_available():
        print("gpu_peaks: no GPU here; peaks are not measured")
        return
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for words in configurations():
            rows.append(compare(words, Path(work)))
            print(json.dumps(rows[-1]), flush=True)
    errors = [abs(row["error"]) for row in rows if row["error"] is not None]
    content = {
        "name": "gpu_peaks",
        "title": "Peak of torch's allocated bytes of rank 0 against the plan",
        "command": "python -m benchmarks gpu_peaks",
        "machine": {**machine(), "gpu": torch.cuda.get_device_name(0), "gpus": str(torch.cuda.device_count())},
        "figures": rows,
        "notes": {
            "mean absolute error": sum(errors) / max(1, len(errors)),
            "said to fit and did not": [row["words"] for row in rows if row["fits"] and row["measured_gib"] is None],
        },
    }
    (RESULTS / "gpu_peaks.json").write_text(json.dumps(content, indent=2) + "\n")


def compare(words: list[str], work: Path) -> dict[str, Any]:
    """One run of a few steps, and its plan."""
    command = [str(Path(sys.executable).parent / "muster"), "run", *words, "tracking=none", f"run_root={work}/runs"]
    command += ["cluster.gpus_per_node=-1", f"train.max_steps={STEPS}", "cluster.memory_check=false"]
    before = set(work.glob("runs/*"))
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    (folder,) = set(work.glob("runs/*")) - before
    need = json.loads((folder / "run.json").read_bytes())["memory"]["device"]
    inside = [sum(t["likely"] for t in one["terms"] if t["name"] not in OUTSIDE) for one in need["moments"]]
    whole = max(sum(t["likely"] for t in one["terms"]) for one in need["moments"])
    predicted = max(inside) / (1 << 30)
    lines = (folder / "metrics.jsonl").read_text().splitlines() if done.returncode == 0 else []
    peaks = [json.loads(line).get("mem/gpu_peak_gib", 0.0) for line in lines]
    measured = max(peaks) if peaks else None
    return {
        "words": " ".join(words),
        "predicted_gib": round(predicted, 3),
        "measured_gib": measured,
        "error": None if not measured else round(predicted / measured - 1, 4),
        "fits": need["capacity"] is None or whole <= need["capacity"],
    }
