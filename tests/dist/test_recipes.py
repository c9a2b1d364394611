"""Every recipe from its documented command to a model that plain transformers or PEFT loads, on two ranks.

Each is cut to a few steps. That the methods and tasks go on after a stop bit for bit, under each ZeRO stage, is tested
where they are: `test_resume` (full), `test_methods` (LoRA, QLoRA, 8 bits, prompt tuning), `test_seq2seq`, `test_seq_cls`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from conf.outcome import State
from conf.record import read_plan
from conf.schema import TaskName
from launcher.compose.layers import package_folder
from tests.conftest import REPOSITORY
from tests.dist.runs import metrics, outcome

pytestmark = pytest.mark.dist

PAGE = (REPOSITORY / "docs" / "recipes.md").read_text()
COMMANDS = dict(re.findall(r"^## (\w+)\n.*?```bash\n(muster run experiment=\w+)\n", PAGE, re.DOTALL | re.MULTILINE))
STEPS = 2
SMALL = (
    f"name=recipe tracking=none cluster.gpus_per_node=0 cluster.ranks_per_node=2 train.max_steps={STEPS} "
    "train.global_batch_size=8 checkpoint.save_steps=0 checkpoint.export=end train.eval_strategy=no"
)
EXTRA = {
    "summarize": "task.max_predictions=4 task.generation.max_new_tokens=8",
    "best_model": "train.eval_strategy=steps train.eval_steps=1 train.early_stopping_patience=1",
    "classify": "parallel=zero2",
    "lora": "parallel=zero2",
    "freeze_layers": "parallel=zero2",
    "mix": "parallel=zero2",
}
VALUES = {
    "summarize": ["rougeL", "exact_match"],
    "classify": ["accuracy", "f1_macro"],
    "classify_multi_label": ["f1_macro"],
    "classify_causal": ["accuracy"],
    "regression": ["mse"],
    "chat": ["perplexity"],
}
"""What evaluations of a recipe tell."""

NEEDS_OTHER_DATA = {"demo", "gsm8k"}
"""Experiments that other tests run: the first run of the README, and a data set of its own."""


def test_every_recipe_has_its_section_and_command() -> None:
    shipped = {path.stem for path in (package_folder() / "experiment").glob("*.yaml")}
    assert set(COMMANDS) == shipped - NEEDS_OTHER_DATA
    assert all(command == f"muster run experiment={name}" for name, command in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_recipe(name: str, tmp_path: Path) -> None:
    words = shlex.split(COMMANDS[name])[1:]
    ended = subprocess.run(
        [sys.executable, "-m", "muster", *words, *SMALL.split(), *EXTRA.get(name, "").split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [path] = tmp_path.glob("runs/recipe-*")
    run = RunFolder(path)
    assert outcome(run).state is State.done
    assert outcome(run).export_verified
    lines = metrics(run)
    assert all(line["train/loss"] > 0 for line in lines if "train/loss" in line)
    evaluated: dict[str, Any] = {}
    for line in lines:
        evaluated |= {key.rpartition("/")[2]: value for key, value in line.items() if key.startswith("eval/")}
    assert {"loss", *VALUES.get(name, [])} <= evaluated.keys(), evaluated
    assert_loads(run)


def assert_loads(run: RunFolder) -> None:
    """What was handed back is loaded as anybody would load it, and says something."""
    import torch
    import transformers

    plan = read_plan(run.run_json)
    task, method = plan.config.task.name, plan.config.method
    classes = {TaskName.causal_lm: "ForCausalLM", TaskName.seq2seq_lm: "ForSeq2SeqLM"}
    suffix = classes.get(task, "ForSequenceClassification")
    ids = torch.tensor([[5, 6, 7]])
    if method.peft:
        import peft

        assert json.loads((run.adapter / "adapter_config.json").read_text())["peft_type"] == method.peft["peft_type"]
        # The adapter alone, on the base model it names.
        base = getattr(transformers, f"AutoModel{suffix}").from_pretrained(run.model, **head_of(run))
        adapted = peft.PeftModel.from_pretrained(base, run.adapter)
        assert torch.isfinite(adapted(input_ids=ids).logits).all()
    if not method.peft or run.export.is_dir():
        model = getattr(transformers, f"AutoModel{suffix}").from_pretrained(run.export)
        further = {"decoder_input_ids": ids} if task is TaskName.seq2seq_lm else {}
        assert torch.isfinite(model(input_ids=ids, **further).logits).all()
        if task is TaskName.seq_cls:
            assert len(model.config.id2label) == model.config.num_labels
    assert transformers.AutoTokenizer.from_pretrained(run.export if run.export.is_dir() else run.adapter)


def head_of(run: RunFolder) -> dict[str, Any]:
    """The labels of a classifier's head, as data.json has them."""
    labels = json.loads(run.data_json.read_text()).get("labels")
    return {"num_labels": len(labels["names"]), "ignore_mismatched_sizes": True} if labels else {}
