"""Answers on several ranks: those of the plain model, in step or with whole weights, and training goes on after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.dist.harness import join_world, launch_each
from tests.dist.pairs import rows, write_t5, write_tokenizer
from tests.dist.small_models import deepspeed_json, write_model

pytestmark = pytest.mark.dist

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 3, "max_new_tokens": 6},
    "sampled": {"do_sample": True, "temperature": 1.5, "top_k": 8, "max_new_tokens": 6},
}
KINDS = ("llama", "t5")


def documents_of(tokenizer: Any, count: int) -> list[tuple[int, Any]]:
    """Questions of one to five tokens with answers; numbered as documents of a split are."""
    import numpy as np

    from train.data.documents import Document

    found = []
    for number, (source, target) in enumerate(rows(count, seed=3)):
        ids = tokenizer(f"{source} " * (number % 3 + 1)).input_ids
        answer = tokenizer(target).input_ids
        mask = np.arange(len(ids) + len(answer)) >= len(ids)
        found.append((number, Document(np.array(ids + answer), mask)))
    return found


def loaded(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    loader = AutoModelForSeq2SeqLM if folder.name == "t5" else AutoModelForCausalLM
    return loader.from_pretrained(folder, dtype=torch.float32)


def engine_of(folder: Path) -> Any:
    """An engine under ZeRO-3 in this rank."""
    import torch
    from transformers.integrations import HfDeepSpeedConfig

    from train.engine import Engine

    configuration = deepspeed_json(3)
    sharding = HfDeepSpeedConfig(configuration)
    model = loaded(folder)
    del sharding
    return Engine(model, torch.optim.AdamW(model.parameters(), lr=1e-2), configuration, torch.device("cpu"))


def answer_each(folders: list[Path]) -> Any:
    """Each model's answers by this rank in step, rank 1 without documents; with whole weights; and losses after."""
    import torch
    from transformers import AutoTokenizer

    from train.generation.generation import Generation
    from train.generation.whole import Generator, generator

    world = join_world()
    found = {}
    for folder in folders:
        engine = engine_of(folder)
        losses = [train_step(engine)]
        engine = engine_of(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        documents = documents_of(tokenizer, 5)
        engine.eval()
        for name, options in WAYS.items():
            generation = Generation(engine.module, tokenizer, options, 7, None)
            with torch.no_grad():
                in_step = Generator(engine.module, engine.device, in_step=True)
                found[folder.name, name, "in step"] = generation.answer(in_step, documents if world.first else [])
                with generator(engine, world, 2) as model:
                    assert not model.in_step
                    own = documents[:2] if world.first else documents[2:]  # another number of calls each
                    answers = [generation.answer(model, [document])[0][0] for document in own]
                found[folder.name, name, "whole"] = answers
        assert all(parameter.numel() == 0 for parameter in engine.module.parameters() if not parameter.ds_persist)
        engine.train()
        losses.append(train_step(engine))
        found[folder.name, "losses"] = losses
    return found


def train_step(engine: Any) -> list[float]:
    """Two steps on the same tokens; their losses."""
    import torch

    losses = []
    ids = torch.randint(3, 12, (2, 6), generator=torch.Generator().manual_seed(engine.rank))
    for _ in range(2):
        loss = engine(input_ids=ids, labels=ids).loss
        engine.backward(loss, boundary=True)
        engine.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    llama = write_model(folder / "llama", "llama", initializer_range=0.3, pad_token_id=0, eos_token_id=1)
    write_tokenizer(llama)
    return {"llama": llama, "t5": write_t5(folder / "t5", initializer_factor=8.0)}


@pytest.fixture(scope="module")
def ranks(folders: dict[str, Path]) -> list[dict[Any, Any]]:
    (found,) = launch_each(answer_each, 2, [(list(folders.values()),)])
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_answers_do_not_depend_on_ranks_or_gathering(ranks: list[dict[Any, Any]], kind: str, way: str) -> None:
    in_step, _ = ranks[0][kind, way, "in step"]
    whole = [prediction for rank in ranks for prediction in rank[kind, way, "whole"]]
    assert [one.document for one in in_step] == list(range(5))
    assert in_step == whole
    assert ranks[1][kind, way, "in step"] == ([], 0)
    assert len({one.output["prediction"] for one in whole}) > 1, "answers that are all the same show nothing"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["greedy", "beams"])
def test_answers_are_the_plain_model_s(
    ranks: list[dict[Any, Any]], folders: dict[str, Path], kind: str, way: str
) -> None:
    import torch
    from transformers import AutoTokenizer

    model, tokenizer = loaded(folders[kind]), AutoTokenizer.from_pretrained(folders[kind])
    for (number, document), found in zip(documents_of(tokenizer, 5), ranks[0][kind, way, "in step"][0], strict=True):
        expected_tokens = int(document.target_mask.sum())
        options = {"max_new_tokens": expected_tokens + 16, "eos_token_id": 1}
        ids = torch.from_numpy(document.prompt)[None]
        output = model.generate(input_ids=ids, **{**options, **WAYS[way]})[0]
        tail = output[1 if kind == "t5" else ids.shape[1] :]
        assert found.output["prediction"] == tokenizer.decode(tail, skip_special_tokens=True).strip()
        target = document.ids[len(document.prompt) :]
        assert found.output["reference"] == tokenizer.decode(target, skip_special_tokens=True).strip()
        assert found.document == number


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_as_if_nothing_was_asked(ranks: list[dict[Any, Any]], kind: str) -> None:
    for rank in ranks:
        before, after = rank[kind, "losses"]
        assert before == after
