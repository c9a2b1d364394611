"""The same model, documents and order for Muster and its peers, and one run of each.

A folder holds `model/` (a random llama of a given shape, with a tokenizer of one token a word), `train.jsonl`, which
Muster reads, and `documents.npz` with `settings.json`, which the peers read: token ids, target masks, and the documents
of each step.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.data.order import documents_of_step, mix_of

BIN = Path(sys.executable).parent
SEED = 42


def shared_data(name: str) -> Path:
    """The folder of a real data set: beside the checkout, or where the variable of its name says.

    Raises:
        SystemExit: there is none.
    """
    folder = Path(os.environ.get(name.upper(), Path(__file__).resolve().parents[2] / "shared" / "data" / name))
    if not folder.is_dir():
        raise SystemExit(f"{name} is not at {folder}; give its folder with the variable {name.upper()}")
    return folder


@dataclass(frozen=True)
class Case:
    """What is trained: `mean_length` tokens a document, all equal or (`uneven`) log-normal as real text is."""

    ranks: int = 2
    zero_stage: int = 3
    precision: str = "fp32"
    global_batch_size: int = 16
    micro_batch_size: int = 4
    steps: int = 20
    mean_length: int = 128
    max_length: int = 512
    uneven: bool = False
    hidden_size: int = 256
    layers: int = 4
    heads: int = 8
    vocabulary: int = 2000
    learning_rate: float = 1e-4
    gradient_checkpointing: bool = False

    @property
    def dtype(self) -> str:
        """Precision of the weights on disk, in torch's spelling."""
        return "bfloat16" if self.precision == "bf16" else "float32"

    @property
    def shape(self) -> dict[str, int | str]:
        """The model's config.json."""
        return {
            "model_type": "llama",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.hidden_size * 3,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": max(1, self.heads // 4),
            "max_position_embeddings": self.max_length,
        }


@dataclass(frozen=True)
class Trained:
    """What one run gave: when it was started, when each step ended (seconds since the epoch), the loss of each."""

    started: float
    ends: list[float]
    losses: list[float]

    @property
    def first_step_s(self) -> float:
        """Seconds from the start of the process to the end of the first optimizer step."""
        return self.ends[0] - self.started

    @property
    def step_s(self) -> float:
        """Median seconds of a step, the first five left out."""
        return float(np.median(np.diff(self.ends)[5:]))


def vocabulary(size: int) -> list[str]:
    """The words of a tokenizer: two special ones and w0, w1 …"""
    return ["<pad>", "<eos>", *(f"w{n}" for n in range(size - 2))]


def word_tokenizer(size: int) -> Any:
    """A transformers tokenizer of one token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    numbers = {word: number for number, word in enumerate(vocabulary(size))}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def make(folder: Path, case: Case) -> None:
    """Write the inputs of `case` into `folder`."""
    from transformers import AutoConfig, AutoModelForCausalLM, set_seed

    words = vocabulary(case.vocabulary)
    set_seed(SEED)
    config = AutoConfig.for_model(**case.shape, eos_token_id=1, pad_token_id=0, bos_token_id=None)
    AutoModelForCausalLM.from_config(config, dtype=case.dtype).save_pretrained(folder / "model")
    word_tokenizer(case.vocabulary).save_pretrained(folder / "model")

    numbers = np.random.default_rng(SEED)
    count = case.global_batch_size * 8
    lengths = np.full(count, case.mean_length)
    if case.uneven:
        spread = numbers.lognormal(np.log(case.mean_length) - 0.32, 0.8, count)
        lengths = np.clip(spread.astype(int), 8, case.max_length)
    documents = [numbers.integers(2, len(words), length - 1) for length in lengths]
    texts = (" ".join(words[token] for token in document) for document in documents)
    (folder / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    ids = [np.append(document, 1).astype(np.int32) for document in documents]
    order = [
        documents_of_step(mix_of([count], []), case.global_batch_size, SEED, step) for step in range(1, case.steps + 1)
    ]
    np.savez(
        folder / "documents.npz",
        ids=np.concatenate(ids),
        mask=np.ones(sum(map(len, ids)), bool),
        offsets=np.cumsum([0, *map(len, ids)]),
        order=np.stack(order),
    )
    (folder / "settings.json").write_text(json.dumps(asdict(case)))


def overrides(folder: Path, case: Case, *more: str) -> list[str]:
    """Muster's command line for `case`."""
    return [
        "model=hf",
        f"model.model_name_or_path={folder / 'model'}",
        f"data.train_file={folder / 'train.jsonl'}",
        f"data.max_length={case.max_length}",
        f"run_root={folder / 'runs'}",
        f"parallel=zero{case.zero_stage}",
        f"cluster.ranks_per_node={case.ranks}",
        f"optim.learning_rate={case.learning_rate}",
        "schedule=constant",
        "schedule.warmup_steps=0",
        f"train.max_steps={case.steps}",
        f"train.global_batch_size={case.global_batch_size}",
        f"train.per_device_train_batch_size={case.micro_batch_size}",
        f"train.precision={case.precision}",
        f"train.gradient_checkpointing={str(case.gradient_checkpointing).lower()}",
        f"train.seed={SEED}",
        "train.eval_strategy=no",
        "checkpoint.save_steps=0",
        "checkpoint.export=never",
        *more,
    ]


def muster(folder: Path, case: Case, *more: str) -> Trained:
    """One `muster run` from nothing but the prepared data of an earlier one."""
    for old in (folder / "runs").glob("[!.]*"):
        shutil.rmtree(old)
    started = time.time()
    _run([str(BIN / "muster"), "run", *overrides(folder, case, *more)])
    (metrics,) = (folder / "runs").glob("[!.]*/metrics.jsonl")
    lines = [line for line in map(json.loads, metrics.read_text().splitlines()) if "train/loss" in line]
    return Trained(started, [line["time"] for line in lines], [line["train/loss"] for line in lines])


def peer(folder: Path, case: Case, script: str, *more: str) -> Trained:
    """One run of a script in `benchmarks/peers` under torchrun."""
    result = folder / "peer.json"
    path = Path(__file__).parent / "peers" / f"{script}.py"
    started = time.time()
    launch = [str(BIN / "torchrun"), "--standalone", f"--nproc-per-node={case.ranks}"]
    _run([*launch, str(path), str(folder), str(result), *more])
    found = json.loads(result.read_text())
    return Trained(started, found["ends"], found["losses"])


def _run(command: list[str]) -> None:
    env = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "DS_ACCELERATOR": "cpu"}
    if Path("/dev/nvidiactl").exists():
        env.pop("DS_ACCELERATOR")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-6000:]}")


def largest_difference(ours: Trained, theirs: Trained) -> float:
    """Largest relative difference of the loss over the steps both made."""
    pairs = zip(ours.losses, theirs.losses, strict=False)
    return max(abs(a - b) / abs(b) for a, b in pairs)
