"""The weights of an architecture that no formula knows: made without memory by the ranks' own Python, and remembered.

A subprocess makes the model on torch's `meta` device, where tensors have shapes and no bytes, and tells its weights.
The answer is kept in the person's cache folder by the content it follows from. Code of hub models is never run.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.files import write_atomically
from conf.schema import TaskName
from launcher.check.libraries import needs_own_code
from launcher.plan.shapes.weights import Group, Shape, Weight

TIMEOUT_S = 300
CLASSES = {
    TaskName.causal_lm: "AutoModelForCausalLM",
    TaskName.seq2seq_lm: "AutoModelForSeq2SeqLM",
    TaskName.seq_cls: "AutoModelForSequenceClassification",
}

_PROGRAM = """
import json, sys
kind, content, labels = json.loads(sys.argv[1])
try:
    import torch, transformers
except ImportError as error:
    print(json.dumps({"error": f"this Python has no {error.name}"}))
    raise SystemExit
try:
    model_type = content.pop("model_type")
    config = transformers.AutoConfig.for_model(model_type, **content)
    if labels:
        config.num_labels = labels
    with torch.device("meta"):
        model = getattr(transformers, kind).from_config(config)
except Exception as error:
    print(json.dumps({"error": f"{type(error).__name__}: {error}".splitlines()[0]}))
    raise SystemExit
modules = dict(model.named_modules())
stacks = []
for name, module in modules.items():
    inside = any(name.startswith(f"{stack}.") for stack in stacks)
    if isinstance(module, torch.nn.ModuleList) and not inside and next(module.parameters(), None) is not None:
        stacks.append(name)
body = model.base_model_prefix
heads = {name for name, _ in model.named_children() if name != body}
weights = []
for name, parameter in model.named_parameters():
    owner = name.rpartition(".")[0]
    module = modules.get(owner)
    stack = next((one for one in stacks if name.startswith(f"{one}.")), None)
    layer = int(name[len(stack) + 1 :].partition(".")[0]) if stack else None
    table = isinstance(module, torch.nn.Embedding) or ".embeddings." in f".{name}"
    head = name.partition(".")[0] in heads
    group = "head" if head else "experts" if ".experts." in name else "layers" if stack else None
    group = group or ("embedding" if table else "rest")
    linear = isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
    shape = list(parameter.shape)
    sides = [0, 0]
    if linear and not head and name.endswith(".weight"):
        sides = shape if type(module).__name__ == "Conv1D" else shape[::-1]
    weights.append([name, shape, group, layer, *sides])
outputs, inputs = model.get_output_embeddings(), model.get_input_embeddings()
tied = outputs is not None and inputs is not None and outputs.weight is inputs.weight
print(json.dumps({"weights": weights, "stacks": [len(modules[one]) for one in stacks], "tied": tied}))
"""


@dataclass(frozen=True)
class Made:
    """The weights of a model that was made without memory, or why it could not be."""

    shape: Shape | None = None
    error: str = ""


@dataclass(frozen=True)
class Workshop:
    """Where models are made: the ranks' Python, its environment, the version of transformers, and the cache's folder
    (None: nothing is remembered)."""

    python: str
    environment: Mapping[str, str]
    version: str = ""
    cache: Path | None = None


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Muster's folder in the person's cache."""
    return Path(environment.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "muster")


def made_shape(config: Mapping[str, Any], task: TaskName, labels: int, workshop: Workshop) -> Made:
    """The weights of the model that a config.json describes, remembered or made."""
    if needs_own_code(config, task):
        return Made(error="it comes with code of its own, which is not run for a plan")
    asked = json.dumps([CLASSES[task], dict(config), labels if task is TaskName.seq_cls else 0], sort_keys=True)
    key = hashlib.sha256(f"{workshop.version}\n{asked}\n{_PROGRAM}".encode()).hexdigest()[:16]
    path = workshop.cache / f"shape-{key}.json" if workshop.cache else None
    if path is not None:
        try:
            return Made(_shape(json.loads(path.read_bytes())))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not there, or not ours
    answer = _make(asked, workshop)
    if "error" in answer:
        return Made(error=str(answer["error"]))
    if path is not None:
        _remember(path, answer)
    return Made(_shape(answer))


def _make(asked: str, workshop: Workshop) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [workshop.python, "-I", "-c", _PROGRAM, asked],
            capture_output=True,
            env={**workshop.environment, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"},
            timeout=TIMEOUT_S,
            check=False,
            text=True,
        )
        lines = done.stdout.strip().splitlines()
        answer: dict[str, Any] = json.loads(lines[-1]) if lines else {"error": f"ended with status {done.returncode}"}
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    return answer


def _remember(path: Path, answer: Mapping[str, Any]) -> None:
    """A cache that cannot be written is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(answer).encode())
    except OSError:
        return


def _shape(answer: Mapping[str, Any]) -> Shape:
    weights = tuple(
        Weight(str(name), tuple(shape), Group(group), layer, int(inputs), int(outputs))
        for name, shape, group, layer, inputs, outputs in answer["weights"]
    )
    return Shape(weights, tuple(answer["stacks"]), bool(answer["tied"]))
