"""Activations: the plan's formulas against torch's memory tracker, at real sizes under fake tensors."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.measure import RESULTS, machine
from launcher.plan.memory.activations import Work, activations_of
from launcher.plan.memory.layers import Attention, stacks_of

TOKENS = 4096
LARGE = {"num_hidden_layers": 80, "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64}
SHAPES: dict[str, dict[str, Any]] = {
    "Llama-3.2-1B": {
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "Gemma-3-1B": {
        "model_type": "gemma3_text",
        "hidden_size": 1152,
        "intermediate_size": 6912,
        "num_hidden_layers": 26,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "vocab_size": 262144,
    },
    "Qwen2.5-1.5B": {
        "model_type": "qwen2",
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "Phi-3-mini": {
        "model_type": "phi3",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32064,
        "pad_token_id": 0,
    },
    "Qwen3-4B": {
        "model_type": "qwen3",
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "OLMo-2-7B": {
        "model_type": "olmo2",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 100352,
    },
    "Mistral-7B": {
        "model_type": "mistral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32768,
        "sliding_window": None,
    },
    "Llama-3.1-8B": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "GPT-NeoX-20B": {
        "model_type": "gpt_neox",
        "hidden_size": 6144,
        "intermediate_size": 24576,
        "num_hidden_layers": 44,
        "num_attention_heads": 64,
        "vocab_size": 50432,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
    },
    "Qwen3-30B-A3B": {
        "model_type": "qwen3_moe",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "norm_topk_prob": True,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "vocab_size": 151936,
        "tie_word_embeddings": False,
    },
    "Mixtral-8x7B": {
        "model_type": "mixtral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "vocab_size": 32000,
    },
    "Llama-3.3-70B": {"model_type": "llama", **LARGE, "num_key_value_heads": 8, "vocab_size": 128256},
}
"""Shapes as on their model cards."""


@dataclass(frozen=True)
class Row:
    """One comparison, in bytes."""

    model: str
    checkpointing: bool
    tracked: int
    predicted: int
    seconds: float

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.tracked - 1


def predicted(shape: dict[str, Any], tokens: int, checkpointing: bool, interval: int = 1) -> int:
    """The formulas' peak for a packed row in bf16, every token a target."""
    stacks = stacks_of(shape, 2, Attention.packed)
    assert stacks is not None
    work = Work(1, tokens, tokens, tokens, shape["vocab_size"], 2, checkpointing=checkpointing, interval=interval)
    return int(activations_of(stacks, work).peak)


def compare(name: str, shape: dict[str, Any], tokens: int, checkpointing: bool) -> Row:
    """One shape in a process of its own, so that what the tracker keeps is given back."""
    program = (
        "import json, sys, warnings; warnings.filterwarnings('ignore'); from benchmarks.tracked import tracked; "
        "found = tracked(*json.loads(sys.argv[1])); print(json.dumps([found.peak, found.seconds]))"
    )
    asked = json.dumps([shape, tokens, checkpointing])
    done = subprocess.run([sys.executable, "-c", program, asked], capture_output=True, text=True, check=True)
    peak, seconds = json.loads(done.stdout.strip().splitlines()[-1])
    return Row(name, checkpointing, peak, predicted(shape, tokens, checkpointing), round(seconds, 1))


def main(runs: int) -> None:
    """Each shape with and without gradient checkpointing; one run each, since nothing in it is timed. What is tracked
    already is not tracked again, but predicted anew."""
    found = known()
    for name, shape in SHAPES.items():
        for checkpointing in (True, False):
            row = found.get((name, checkpointing)) or compare(name, shape, TOKENS, checkpointing)
            found[name, checkpointing] = replace(row, predicted=predicted(shape, TOKENS, checkpointing))
            write(list(found.values()))
            print(line(found[name, checkpointing]), flush=True)


def known() -> dict[tuple[str, bool], Row]:
    """What is kept of earlier runs."""
    path = RESULTS / "activations.json"
    figures = json.loads(path.read_bytes())["figures"] if path.exists() else []
    rows = (
        Row(
            one["model"],
            one["gradient_checkpointing"],
            one["tracked_bytes"],
            one["predicted_bytes"],
            one["tracker_seconds"],
        )
        for one in figures
    )
    return {(row.model, row.checkpointing): row for row in rows}


def line(row: Row) -> str:
    """A row of the table as Markdown."""
    gib = 1 << 30
    how = "checkpointed" if row.checkpointing else "all kept"
    return f"| {row.model} | {how} | {row.tracked / gib:.2f} | {row.predicted / gib:.2f} | {row.error:+.1%} |"


def write(rows: list[Row]) -> None:
    """Keep what is there so far."""
    errors = [abs(row.error) for row in rows]
    content = {
        "name": "activations",
        "title": f"Activations of a packed row of {TOKENS} tokens in bf16, every token a target: bytes at the peak",
        "command": "python -m benchmarks activations",
        "machine": machine(),
        "figures": [
            {
                "model": row.model,
                "gradient_checkpointing": row.checkpointing,
                "tracked_bytes": row.tracked,
                "predicted_bytes": row.predicted,
                "error": round(row.error, 5),
                "tracker_seconds": row.seconds,
            }
            for row in rows
        ],
        "notes": {
            "mean absolute error": round(sum(errors) / len(errors), 5),
            "largest absolute error": round(max(errors), 5),
        },
    }
    (RESULTS / "activations.json").write_text(json.dumps(content, indent=2) + "\n")
