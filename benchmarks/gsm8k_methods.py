"""One task, three methods: full fine-tuning, LoRA and QLoRA of a small causal model on GSM8K; their curves in one plot.

The base is made here: a small llama that has read the questions as plain text. Needs GSM8K (train.jsonl, test.jsonl
with question and answer) in ../shared/data or the folder in $GSM8K. Writes results/gsm8k_methods.json and
docs/figures/gsm8k-methods.svg.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.banking77 import timed
from benchmarks.inputs import BIN, shared_data
from benchmarks.measure import RESULTS, draw_curves, machine

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "figures" / "gsm8k-methods.svg"
BASE_STEPS, STEPS, EVAL_STEPS = 400, 200, 20
METHODS = {
    "full": ("method=full", "optim.learning_rate=1e-3"),
    "LoRA": ("method=lora", "optim.learning_rate=5e-3"),
    "QLoRA": ("method=qlora", "optim.learning_rate=5e-3"),
}
COMMON = (
    "parallel=zero2",
    *(() if "gpu" in machine() else ("cluster.ranks_per_node=2",)),
    "train.precision=fp32",
    "train.global_batch_size=32",
    "data.max_length=512",
    "checkpoint.save_steps=0",
    "tracking=none",
)

Curve = list[tuple[int, float]]


def main(runs: int) -> None:
    """Train the base once and each method once; `runs` has no meaning here."""
    data = shared_data("gsm8k")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        base = base_model(work, data)
        found = {name: train(work, data, base, name, words) for name, words in METHODS.items()}
    content = {
        "name": "gsm8k_methods",
        "title": f"GSM8K on a small causal model: {STEPS} steps of 32 questions",
        "command": "python -m benchmarks gsm8k_methods",
        "machine": machine(),
        "methods": {name: list(words) for name, words in METHODS.items()},
        "figures": found,
    }
    (RESULTS / "gsm8k_methods.json").write_text(json.dumps(content, indent=2) + "\n")
    draw_curves({name: result["curve"] for name, result in found.items()}, FIGURE, "validation loss")
    print("\n".join(table(str(content["title"]), found)))


def base_model(work: Path, data: Path) -> Path:
    """A small llama that has read the questions; its export."""
    text = work / "questions.jsonl"
    with (data / "train.jsonl").open(encoding="utf-8") as lines, text.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps({"text": json.loads(line)["question"]}) + "\n" for line in lines)
    words = [f"data.train_file={text}", f"train.max_steps={BASE_STEPS}", "optim.learning_rate=3e-3"]
    words += ["model=tiny", "model.tokenizer_vocab_size=2048", "checkpoint.export=end", "train.eval_strategy=no"]
    timed([str(BIN / "muster"), "run", *words, f"run_root={work / 'base'}", *COMMON])
    (run,) = (work / "base").glob("[!.]*")
    return run / "export"


def train(work: Path, data: Path, base: Path, name: str, method: tuple[str, ...]) -> dict[str, Any]:
    """One method: validation losses by step, seconds of a step, memory, trainable share."""
    root = work / "runs"
    shutil.rmtree(root, ignore_errors=True)
    words = [f"data.train_file={data / 'train.jsonl'}", f"data.validation_file={data / 'test.jsonl'}"]
    words += ["data.columns.prompt=question", "data.columns.response=answer", f"train.max_steps={STEPS}"]
    words += ["model=hf", f"model.model_name_or_path={base}", f"train.eval_steps={EVAL_STEPS}", *method]
    timed([str(BIN / "muster"), "run", *words, f"run_root={root}", "checkpoint.export=never", *COMMON])
    (run,) = root.glob("[!.]*")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "train/loss" in line]
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    parameters = next((line for line in events if line["event"] == "trainable"), None)
    result = {
        "curve": [(line["step"], line["eval/loss"]) for line in lines if "eval/loss" in line],
        "step_s": statistics.median(line["perf/step_time_s"] for line in steps[5:]),
        "host_peak_gib": max(line["mem/host_peak_gib"] for line in steps),
        "trainable_share": parameters["trainable"] / parameters["parameters"] if parameters else 1.0,
    }
    print(name, json.dumps(result), file=sys.stderr, flush=True)
    return result


def table(title: str, found: dict[str, dict[str, Any]]) -> list[str]:
    """The figures as Markdown."""
    lines = [
        f"## {title}",
        "",
        "| | loss before | after | s a step | host GiB a rank | trainable |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in found.items():
        curve: Curve = result["curve"]
        values = (curve[0][1], curve[-1][1], result["step_s"], result["host_peak_gib"], result["trainable_share"])
        lines.append(f"| {name} | {' | '.join(f'{value:.4g}' for value in values)} |")
    return lines


if __name__ == "__main__":
    main(1)
