"""Exports with real ranks: what `from_pretrained` reads is what was trained; anything else is not marked good."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from conf.layout import RunFolder
from tests.dist.harness import join_world, launch_each
from tests.dist.small_models import open_engine, train_steps, write_model, write_tokenizer
from train.checkpoint import checkpoint
from train.export import proof
from train.distributed import World
from train.export.export import export
from train.export.shards import deal, file_names, pieces
from train.metrics.journal import Journal

pytestmark = pytest.mark.dist

# model type, tied, ZeRO stage, bf16, bytes of a file, files expected (None: any number above one)
CASES = [
    ("llama", False, 0, False, 10**9, 1),
    ("llama", True, 3, False, 20_000, None),
    ("llama", True, 2, True, 20_000, None),
    ("llama", False, 3, True, 1, None),
    ("gpt2", True, 3, False, 10**9, 1),
    ("mixtral", False, 2, False, 30_000, None),
    ("mixtral", True, 3, True, 30_000, None),
    ("qwen2_moe", False, 3, False, 10**9, 1),
]
IDS = [
    f"{name}-{'tied' if tied else 'untied'}-zero{stage}-{'bf16' if bf16 else 'fp32'}"
    for name, tied, stage, bf16, *_ in CASES
]


def train_and_export_each(calls: list[tuple[RunFolder, Path, int, bool, int]]) -> list[Any]:
    world = join_world()
    return [train_and_export(world, *call) for call in calls]


def train_and_export(world: World, folder: RunFolder, model: Path, stage: int, bf16: bool, max_shard_bytes: int) -> Any:
    """Two steps, then an export; returns the result, the engine's own logits, and how many bytes a file had at most."""
    engine = open_engine(model, stage, bf16)
    train_steps(engine, 0, 2)
    result = export(engine, world, folder, max_shard_bytes, "test-1a2b3c4d", 2)
    layers = max(sum(piece.size for piece in file) for file in deal(pieces(engine.module), 1))
    return result, proof.engine_logits(engine).numpy(), layers


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[RunFolder, list[Any]]]:
    calls = []
    for (name, tied, stage, bf16, max_bytes, _), case in zip(CASES, IDS, strict=True):
        folder = RunFolder(tmp_path_factory.mktemp(case))
        write_tokenizer(folder.model)
        model = write_model(folder.path / "start", name, tied)
        calls.append((folder, model, stage, bf16, max_bytes))
    (ranks,) = launch_each(train_and_export_each, 2, [(calls,)])
    return {
        case: (call[0], [results[i] for results in ranks])
        for i, (case, call) in enumerate(zip(IDS, calls, strict=True))
    }


@pytest.mark.parametrize("case", IDS)
def test_export_is_the_trained_model(exports: dict[str, tuple[RunFolder, list[Any]]], case: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, ranks = exports[case]
    name, tied, _, bf16, max_bytes, count = CASES[IDS.index(case)]
    assert [(result.verified, result.max_abs_diff) for result, *_ in ranks] == [(True, 0.0)] * 2
    record = json.loads((folder.export / "muster.json").read_text())
    assert (record["verified"], record["max_abs_diff"], record["step"], record["run_id"]) == (
        True,
        0,
        2,
        "test-1a2b3c4d",
    )
    assert "whole on rank 0" in record["checked"]

    model, found = AutoModelForCausalLM.from_pretrained(folder.export, output_loading_info=True)
    assert not any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == (torch.bfloat16 if bf16 else torch.float32)
    assert model.config.use_cache
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the ranks: sums of two threads round otherwise
    with torch.no_grad():
        logits = model(**proof._inputs(model.config, torch.device("cpu"))).logits[0].float().numpy()
    torch.set_num_threads(threads)
    assert (logits == ranks[0][1]).all()

    start = AutoModelForCausalLM.from_pretrained(folder.path / "start", dtype=model.dtype)
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, start.state_dict()[key])]
    assert changed, "two steps must have changed the weights"

    files = sorted(path.name for path in folder.export.glob("*.safetensors"))
    assert files == file_names(len(files))
    assert len(files) == count or (count is None and len(files) > 1)
    header = {key for file in files for key in _header(folder.export / file)}
    assert header == {key for file in (folder.path / "start").glob("*.safetensors") for key in _header(file)}
    if len(files) > 1:
        index = json.loads((folder.export / "model.safetensors.index.json").read_text())
        assert set(index["weight_map"]) == header
        assert set(index["weight_map"].values()) == set(files)
        largest_layer = ranks[0][2]
        assert all((folder.export / file).stat().st_size <= max(max_bytes, largest_layer) + 20_000 for file in files)
    assert ("lm_head.weight" in header) == (not tied)
    assert name != "mixtral" or any(".experts.3.w2.weight" in key for key in header)
    assert (
        AutoTokenizer.from_pretrained(folder.export)("a b").input_ids
        == AutoTokenizer.from_pretrained(folder.model)("a b").input_ids
    )
    assert not folder.export_partial.exists()
    assert not folder.export_unverified.exists()


def _header(path: Path) -> set[str]:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return set(header) - {"__metadata__"}


def export_twice_then_break(folder: RunFolder, model: Path) -> Any:
    """A good export; the same sharded; one whose files are changed before they are read back; one without room."""
    world = join_world()
    engine = open_engine(model, 3)
    train_steps(engine, 0, 1)
    good = export(engine, world, folder, 20_000, "test-1a2b3c4d", 1)
    expected = proof.engine_logits(engine)
    sharded = proof._sharded_logits(engine.module, folder.export, world)
    difference = float((sharded - expected).abs().max())

    def spoil(text: str) -> None:
        if "reading" in text and world.first:
            path = sorted(folder.export_partial.glob("*.safetensors"))[0]
            content = bytearray(path.read_bytes())
            content[-400:] = bytes(400)
            path.write_bytes(content)

    bad = export(engine, world, folder, 20_000, "test-1a2b3c4d", 1, spoil)
    return good, difference, bad


def test_an_export_that_is_not_the_model_is_not_marked_good(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    model = write_model(tmp_path / "start", "llama")
    (ranks,) = launch_each(export_twice_then_break, 2, [(folder, model)])
    for good, difference, bad in ranks:
        assert good.verified
        assert difference == 0.0
        assert not bad.verified
        assert "differ by" in bad.reason
        assert bad.path == folder.export_unverified
    assert json.loads((folder.export / "muster.json").read_text())["verified"] is True
    assert json.loads((folder.export_unverified / "muster.json").read_text())["verified"] is False
    assert not folder.export_partial.exists()


def resumed_export(folder: RunFolder, model: Path, stage: int) -> Any:
    """Save, load into new engines, export: what `muster export` does after the run."""
    world = join_world()
    engine = open_engine(model, stage)
    train_steps(engine, 0, 2)
    expected = proof.engine_logits(engine)
    assert checkpoint.save(engine, world, folder, 2, {}).error is None
    fresh = open_engine(model, stage)
    checkpoint.load(fresh, checkpoint.at_step(folder, world, 2), world, Journal(folder, 0, active=False))
    result = export(fresh, world, folder, 10**9, "test-1a2b3c4d", 2)
    return result.verified, bool((proof.engine_logits(fresh) == expected).all())


def test_export_from_a_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    model = write_model(tmp_path / "start", "llama")
    (ranks,) = launch_each(resumed_export, 2, [(folder, model, 3)])
    assert ranks == [(True, True)] * 2
    shutil.rmtree(folder.export)
