"""Peaks of real runs on this machine's GPU against their plans: torch's own count, and none that "fits" and does not.

Rows are full: each document has as many tokens as a row. Weights are random. A peak is of one process, so that several
runs may share a GPU (as many as $MUSTER_BENCH_JOBS says). Needs a GPU; without one it says so and writes nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from benchmarks.inputs import BIN, word_tokenizer
from benchmarks.measure import RESULTS, machine

OUTSIDE = frozenset({"CUDA context", "NCCL", "fragments"})
"""Terms that torch's count of allocated bytes does not see."""

MODELS = ("llama3.2-1b", "qwen3-0.6b", "gemma3-1b")
STEPS = 3
CONF = Path(__file__).resolve().parents[1] / "conf" / "model"


def configurations() -> Iterator[tuple[str, int, list[str]]]:
    """Model, tokens of a row, overrides: all, half or no layers checkpointed, methods, stages, micro batch."""
    for model in MODELS:
        yield model, 2048, []
        yield model, 8192, ["train.gradient_checkpointing=true"]
        yield model, 4096, ["train.gradient_checkpointing=true", "train.gradient_checkpointing_interval=2"]
        yield model, 2048, ["parallel=zero2", "train.per_device_train_batch_size=4", "train.global_batch_size=4"]
        yield model, 2048, ["method=lora"]
        yield model, 1024, ["train.precision=fp32"]
    yield "llama3.2-1b", 4096, ["parallel=zero1"]
    yield "llama3.2-1b", 2048, ["method=qlora"]
    yield "llama3.2-3b", 4096, ["train.gradient_checkpointing=true"]
    yield "llama3.2-3b", 4096, ["parallel=zero3_offload", "train.gradient_checkpointing=true"]


def main(runs: int) -> None:
    """Each configuration once."""
    import torch
    from transformers import AutoConfig  # noqa: F401 - its first import is not safe in threads

    if not torch.cuda.is_available():
        print("gpu_peaks: no GPU here; peaks are not measured")
        return
    jobs = int(os.environ.get("MUSTER_BENCH_JOBS", "1"))
    with tempfile.TemporaryDirectory() as work, ThreadPoolExecutor(jobs) as pool:
        rows = list(pool.map(lambda case: measure(case, Path(work)), list(configurations())))
    errors = [abs(row["error"]) for row in rows if row["error"] is not None]
    content = {
        "name": "gpu_peaks",
        "title": "Peak of torch's allocated bytes of rank 0 against the plan",
        "command": "python -m benchmarks gpu_peaks",
        "machine": machine(),
        "figures": rows,
        "notes": {
            "mean absolute error": round(sum(errors) / max(1, len(errors)), 4),
            "said to fit and did not": [row["words"] for row in rows if row["fits"] and row["measured_gib"] is None],
        },
    }
    (RESULTS / "gpu_peaks.json").write_text(json.dumps(content, indent=2) + "\n")
    print("\n".join(table(rows)))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The figures as Markdown."""
    lines = ["| configuration | predicted GiB | measured GiB | error |", "|---|---|---|---|"]
    for row in rows:
        measured, error = (
            ("failed", "") if row["error"] is None else (f"{row['measured_gib']:.2f}", f"{row['error']:+.1%}")
        )
        lines.append(f"| {row['words']} | {row['predicted_gib']:.2f} | {measured} | {error} |")
    return lines


def measure(case: tuple[str, int, list[str]], work: Path) -> dict[str, Any]:
    """One run in a folder that is gone afterwards: random weights of several runs would fill a disk."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        return compare(*case, Path(folder))


def compare(model: str, length: int, more: list[str], folder: Path) -> dict[str, Any]:
    """One run of a few steps, and its plan."""
    shape = yaml.safe_load((CONF / f"{model}.yaml").read_text())["shape"]
    write_inputs(folder, shape, length)
    words = ["model=hf", f"model.model_name_or_path={folder / 'model'}", "model.init=random"]
    words += [f"data.train_file={folder / 'train.jsonl'}", f"data.max_length={length}", "train.eval_strategy=no"]
    words += ["train.per_device_train_batch_size=1", "train.global_batch_size=1", f"train.max_steps={STEPS}", *more]
    words += ["checkpoint.save_steps=0", "checkpoint.export=never", "train.logging_steps=1", "cluster.ranks_per_node=1"]
    words += ["tracking=none", f"run_root={folder / 'runs'}", "cluster.memory_check=false"]
    done = subprocess.run([str(BIN / "muster"), "run", *words], cwd=folder, capture_output=True, text=True, check=False)
    named = f"{model} {length} {' '.join(more)}".strip()
    found = [path for path in folder.glob("runs/[!.]*") if done.returncode == 0]
    if not found:
        print(f"{named}: {done.stdout[-2000:]}{done.stderr[-2000:]}", file=sys.stderr, flush=True)
    plans = list(folder.glob("runs/[!.]*/run.json"))
    if not plans:
        raise RuntimeError(f"no run was made for {named}: {done.stderr[-2000:]}")
    row = {"words": named, **predicted(plans[0]), **(measured(found[0]) if found else {"measured_gib": None})}
    row["error"] = row["predicted_gib"] / row["measured_gib"] - 1 if row["measured_gib"] else None
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def write_inputs(folder: Path, shape: dict[str, Any], length: int) -> None:
    """A model folder without weights, and documents that fill a row each."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(**shape, eos_token_id=1, pad_token_id=0, bos_token_id=None)
    config.save_pretrained(folder / "model")
    word_tokenizer(shape["vocab_size"]).save_pretrained(folder / "model")
    line = json.dumps({"text": " ".join(f"w{number % 1000}" for number in range(length - 1))}) + "\n"
    (folder / "train.jsonl").write_text(line * 4 * STEPS * 4)


def predicted(plan: Path) -> dict[str, Any]:
    """The plan's peak of what torch counts, by terms of the moment that it expects."""
    need = json.loads(plan.read_bytes())["memory"]["device"]
    sums = {one["name"]: {t["name"]: t["likely"] / (1 << 30) for t in one["terms"]} for one in need["moments"]}
    inside = {
        name: {term: value for term, value in terms.items() if term not in OUTSIDE} for name, terms in sums.items()
    }
    moment = max(inside, key=lambda name: sum(inside[name].values()))
    whole = max(sum(terms.values()) for terms in sums.values())
    return {
        "predicted_gib": round(sum(inside[moment].values()), 3),
        "moment": moment,
        "terms": {term: round(value, 3) for term, value in inside[moment].items()},
        "fits": need["capacity"] is None or whole * (1 << 30) <= need["capacity"],
        "outside_gib": round(sum(value for term, value in sums[moment].items() if term in OUTSIDE), 3),
    }


def measured(run: Path) -> dict[str, Any]:
    """The highest of torch's counts over the run."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "measured_gib": max(line.get("mem/gpu_peak_gib", 0.0) for line in lines),
        "reserved_gib": max(line.get("mem/gpu_reserved_gib", 0.0) for line in lines),
    }
