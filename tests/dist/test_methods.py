"""Adapters under ZeRO: one curve, resumed to the bit, checkpoints of what is trained, exports that anybody loads."""

from __future__ import annotations

import gc
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.layout import RunFolder
from conf.record import encode_plan, read_plan
from conf.schema import Packing, Quantization, RunConfig, TaskName
from tests.dist.harness import launch_each
from tests.dist.pairs import rows, write_pairs, write_t5
from tests.dist.runs import configuration, events, metrics, outcome, train_runs, write_documents, write_run
from tests.dist.small_models import write_model, write_tokenizer
from tests.dist.test_resume import assert_equal_bits, losses

pytestmark = pytest.mark.dist

STEPS, CUT = 5, 3
LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"}
DROPPING = {**LORA, "lora_dropout": 0.1}
PROMPT = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3}


def settings(peft: dict[str, Any], stage: int, precision: str, quantization: str = "none") -> RunConfig:
    config = configuration(stage, 2, "none" if peft is PROMPT else "exact", STEPS, precision)
    config.method.name, config.method.peft = "adapter", peft
    config.method.quantization = Quantization(quantization)
    if quantization == "nf4":
        config.method.quantization_kwargs = {"bnb_4bit_use_double_quant": True}
    config.checkpoint.save_steps = CUT
    # So that stage 3 shards all of a small model.
    config.parallel.deepspeed = {"zero_optimization": {"stage3_param_persistence_threshold": 10}} if stage == 3 else {}
    return config


def answering(task: TaskName, stage: int, precision: str) -> RunConfig:
    config = settings(LORA, stage, precision)
    config.task.name, config.task.predict_with_generate = task, True
    config.task.generation = {"max_new_tokens": 4}
    config.data.packing, config.checkpoint.save_steps = Packing.none, 0
    return config


CURVE = {
    f"curve-{precision}-zero{stage}": settings(LORA, stage, precision)
    for precision, stages in (("fp32", (0, 1, 2, 3)), ("bf16", (1, 2, 3)))
    for stage in stages
}
RESUMED = {
    "lora-zero2-fp32": settings(DROPPING, 2, "fp32"),
    "lora-zero3-bf16": settings(DROPPING, 3, "bf16"),
    "qlora-zero2-bf16": settings(DROPPING, 2, "bf16", "nf4"),
    "qlora-zero3-bf16": settings(DROPPING, 3, "bf16", "nf4"),
    "lora_8bit-zero1-bf16": settings(DROPPING, 1, "bf16", "int8"),
    "prompt-zero3-bf16": settings(PROMPT, 3, "bf16"),
}
ANSWERING = {
    "t5-zero2-bf16": answering(TaskName.seq2seq_lm, 2, "bf16"),
    "answers-zero3-fp32": answering(TaskName.causal_lm, 3, "fp32"),
}
"""Runs that evaluate with answers."""
ALONE = {"curve-fp32-zero0": "alone-zero0", "curve-fp32-zero3": "alone-zero3"}
"""Curves that one rank computes as well."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_model(tmp_path_factory.mktemp("model"), "llama")
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def runs(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Every run on 2 ranks, one set of them for all, some on 1; copies that went on after `CUT` in new ranks."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("methods")
    lengths = np.random.default_rng(1).integers(4, 32, 19).tolist()
    splits = {"train": write_documents(folder / "train", lengths)}
    splits["validation"] = write_documents(folder / "validation", lengths[:5], seed=1)
    made = {name: write_run(folder / name, config, model, splits) for name, config in (CURVE | RESUMED).items()}
    t5 = write_t5(folder / "t5")
    tokenizer = AutoTokenizer.from_pretrained(t5)
    pairs = {name: write_pairs(folder / f"t5-{name}", tokenizer, rows(8)) for name in ("train", "validation")}
    for name, config in ANSWERING.items():
        made[name] = write_run(folder / name, config, *((t5, pairs) if "t5" in name else (model, splits)))
    for name in (*RESUMED, *ANSWERING):
        plan = read_plan(made[name].run_json)
        made[name].run_json.write_text(encode_plan(replace(plan, export_at_end=True)))
    launch_each(train_runs, 2, [(list(made.values()),)])
    alone = {copy: write_run(folder / copy, CURVE[name], model, splits) for name, copy in ALONE.items()}
    launch_each(train_runs, 1, [(list(alone.values()),)])
    resumed = {f"{name} resumed": _cut(made[name], folder / f"{name}-resumed") for name in RESUMED}
    launch_each(train_runs, 2, [(list(resumed.values()), 1)])
    return made | alone | resumed


def _cut(run: RunFolder, target: Path) -> RunFolder:
    """A copy in which nothing after `CUT` has happened."""
    copy = RunFolder(target)
    shutil.copytree(run.path, copy.path, symlinks=True)
    for path in (copy.checkpoint(STEPS), copy.adapter, copy.export):
        shutil.rmtree(path, ignore_errors=True)
    copy.outcome.unlink()
    return copy


def curve(run: RunFolder) -> np.ndarray[Any, Any]:
    return np.array([[line["train/loss"], line["train/grad_norm"]] for line in metrics(run) if "train/loss" in line])


def test_lora_has_one_curve_over_stages_and_ranks(runs: dict[str, RunFolder]) -> None:
    for precision, tolerance in (("fp32", 1e-6), ("bf16", 1e-3)):
        names = [name for name in [*CURVE, *ALONE.values()] if precision in name or "alone" in name]
        curves = [curve(runs[name]) for name in names if precision == "fp32" or "alone" not in name]
        assert len(curves) >= 3
        assert curves[0].shape == (STEPS, 2)
        assert curves[0][-1, 0] < curves[0][0, 0]
        for other in curves[1:]:
            # The norm of bf16 gradients is rounded in bf16 as well.
            np.testing.assert_allclose(other[:, 0], curves[0][:, 0], rtol=tolerance)
            np.testing.assert_allclose(other[:, 1], curves[0][:, 1], rtol=5 * tolerance)


@pytest.mark.parametrize("name", RESUMED)
def test_going_on_is_bit_equal_and_both_exports_verify(name: str, runs: dict[str, RunFolder]) -> None:
    run, resumed = runs[name], runs[f"{name} resumed"]
    undisturbed = losses(run, 0)
    assert losses(resumed, 1) == {step: undisturbed[step] for step in range(CUT + 1, STEPS + 1)}
    assert_equal_bits(resumed, run)
    assert outcome(resumed).export_verified
    weights = [each.adapter / "adapter_model.safetensors" for each in (run, resumed)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert run.export.is_dir() == ("prompt" not in name)
    reason = events(run, "exported")[-1]["reason"]
    assert ("not merged: virtual tokens" if "prompt" in name else "merged: in fp32") in reason


def test_checkpoints_hold_what_is_trained_alone(runs: dict[str, RunFolder]) -> None:
    import torch

    for name in ("lora-zero2-fp32", "qlora-zero2-bf16", "lora_8bit-zero1-bf16"):
        (path,) = runs[name].checkpoint(STEPS).glob("states/mp_rank_*_model_states.pt")
        module = torch.load(path, weights_only=False)["module"]
        assert len(module) == 2 * 7 * 2  # A and B of seven matrices in two layers
        assert all("lora_" in key for key in module)
    whole = (runs["lora-zero3-bf16"].path / "model" / "model.safetensors").stat().st_size
    trained = events(runs["lora-zero3-bf16"], "trainable")[0]["trainable"]
    states = sum(path.stat().st_size for path in runs["lora-zero3-bf16"].checkpoint(STEPS).rglob("*optim_states.pt"))
    assert 12 * trained <= states < 12 * trained + 20_000 < whole


@pytest.mark.parametrize("name", ["lora-zero2-fp32", "qlora-zero3-bf16"])
def test_anybody_can_load_both_exports(name: str, runs: dict[str, RunFolder]) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = runs[name]
    ids = torch.arange(3, 35)[None]
    merged, found = AutoModelForCausalLM.from_pretrained(run.export, output_loading_info=True)
    assert not any(found.values())
    assert "quantization_config" not in merged.config.to_dict()
    arguments: dict[str, Any] = {"dtype": merged.dtype}
    adapted = AutoPeftModelForCausalLM.from_pretrained(run.adapter, **arguments)
    assert isinstance(adapted, PeftModel)
    base = AutoModelForCausalLM.from_pretrained(run.model, **arguments)
    assert (
        AutoTokenizer.from_pretrained(run.adapter).get_vocab() == AutoTokenizer.from_pretrained(run.model).get_vocab()
    )
    with torch.no_grad():
        logits, alone, plain = (model(ids).logits.float() for model in (merged, adapted, base))
    assert not torch.allclose(alone, plain, atol=1e-3)
    # Merged into 4-bit values, the model is not the adapter on the original ones, but nearer to it than the untrained.
    tolerance = 1e-5 if name == "lora-zero2-fp32" else float((alone - plain).abs().max())
    torch.testing.assert_close(logits, alone, atol=tolerance, rtol=0)


def export_each(folders: list[RunFolder]) -> list[tuple[Any, list[int]]]:
    """In a rank: the export of each run before its first step, and how many adapted models there were at its merge."""
    from tests.dist.harness import join_world
    from train.assembly import assemble
    from train.data.prepared import read_prepared
    from train.export.trained import export_trained

    world = join_world()
    results: list[tuple[Any, list[int]]] = []
    for folder in folders:
        plan, alive = read_plan(folder.run_json), []
        layout = plan.layouts[world.size]
        engine = assemble(plan, layout, folder, read_prepared(folder), world).engine
        result = export_trained(engine, world, plan, layout, folder, 0, partial(meddle, folder, alive))
        results.append((result, alive))
        engine.close()
        del engine
    return results


def meddle(folder: RunFolder, alive: list[int], text: str) -> None:
    """Take the base of the run `lost` away before it is read back; count adapted models before a merge."""
    from peft import PeftModel

    if text.startswith("reading") and folder.path.name == "lost":
        folder.model.unlink()
    if text.startswith("merging"):
        gc.collect()
        alive.append(sum(issubclass(type(one), PeftModel) for one in gc.get_objects()))


def test_an_adapter_s_base_that_is_lost_or_a_merge_that_fails_fails_no_run(model: Path, tmp_path: Path) -> None:
    splits = {"train": write_documents(tmp_path / "train", [8, 9])}
    methods = {name: settings(LORA, 0, "fp32") for name in ("lost", "blocked")}
    methods["quantised"] = settings(LORA, 2, "bf16", "nf4")
    made = {name: write_run(tmp_path / name, config, model, splits) for name, config in methods.items()}
    made["blocked"].export_partial.write_text("no folder")

    [[(lost, blocked, quantised)]] = launch_each(export_each, 1, [(list(made.values()),)])
    assert (lost[0].verified, lost[0].path) == (False, made["lost"].adapter_unverified)
    assert "adapter on its base model: OSError" in lost[0].reason
    assert (blocked[0].verified, blocked[0].path) == (True, made["blocked"].adapter)
    assert "not merged: NotADirectoryError" in blocked[0].reason
    assert (quantised[0].verified, quantised[0].path) == (True, made["quantised"].export)
    assert quantised[1] == [1]  # the engine's: the base that was read back is let go of before another is loaded


def test_adapters_learn_and_answer_in_evaluations(runs: dict[str, RunFolder]) -> None:
    import torch
    from peft import AutoPeftModelForSeq2SeqLM
    from transformers import AutoModelForSeq2SeqLM

    for name in ANSWERING:
        assert outcome(runs[name]).export_verified, events(runs[name], "exported")
        assert "merged: in fp32" in events(runs[name], "exported")[-1]["reason"]
        scores = [line for line in metrics(runs[name]) if "eval/loss" in line]
        assert scores
        assert all("eval/rougeL" in line for line in scores), scores
        losses_of = curve(runs[name])[:, 0]
        assert losses_of[-1] < losses_of[0]
        assert runs[name].predictions("validation").read_text().strip()
    run = runs["t5-zero2-bf16"]
    # In fp32, so that nothing but the rounding of the merged weights is between them.
    merged, found = AutoModelForSeq2SeqLM.from_pretrained(run.export, dtype=torch.float32, output_loading_info=True)
    assert not any(found.values())
    adapted = AutoPeftModelForSeq2SeqLM.from_pretrained(run.adapter, dtype=torch.float32).eval()
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        inputs = {"input_ids": ids, "decoder_input_ids": ids}
        together, alone = (one(**inputs).logits for one in (merged.eval(), adapted))
        with adapted.disable_adapter():
            plain = adapted(**inputs).logits
    assert float((together - alone).abs().max()) < 0.2 * float((alone - plain).abs().max())
    assert merged.generate(ids, max_new_tokens=4).shape[1] > 1
