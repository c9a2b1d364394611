"""The data step: its cache, what makes it new, several at once, broken rows, held-out rows, random models."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.layout import RunFolder
from conf.record import Device, Plan, Topology, encode_plan
from conf.schema import LongRows, ModelConfig, ModelInit, Packing, RunConfig
from train.data import encode, sources
from train.data.block import DataError
from train.data.demo import bundled, demo_rows, encode_rows
from train.data.prepare import prepare
from train.data.prepared import Prepared, read_prepared
from train.data.tokenizer import tokenizer_identity
from train.model import attention
from train.model.per_document import PackingError

ROOT = Path(__file__).parents[2]
GSM8K = ROOT.parent / "shared" / "data" / "gsm8k"
SHAPE = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def config_for(train_file: Path | None, **data: Any) -> RunConfig:
    config = RunConfig()
    config.model.init, config.model.shape = ModelInit.random, dict(SHAPE)
    config.model.tokenizer_name_or_path, config.model.tokenizer_vocab_size = "train", 300
    config.data.train_file = None if train_file is None else str(train_file)
    for name, value in data.items():
        setattr(config.data, name, value)
    return config


def plan_for(config: RunConfig) -> Plan:
    topology = Topology(1, 1, Device.cpu, "fork", 1)
    return Plan("x", "x", config, topology, {}, "llama", None, config.data.packing.value, True, None)


def prepared(config: RunConfig, folder: Path) -> Prepared:
    folder.mkdir(parents=True, exist_ok=True)
    return prepare(plan_for(config), RunFolder(folder), lambda *_: None)


@pytest.fixture
def train_file(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_bytes(encode_rows(demo_rows()["train"][:60]))
    return path


def test_a_second_run_finds_everything(tmp_path: Path, train_file: Path) -> None:
    config = config_for(train_file, validation_size=10)
    first, second = prepared(config, tmp_path / "runs/a"), prepared(config, tmp_path / "runs/b")
    assert (first.reused, second.reused) == (False, True)
    assert first.digest == second.digest
    assert first.splits == second.splits
    assert read_prepared(RunFolder(tmp_path / "runs/b")) == second
    names = [sorted(file.name for file in (tmp_path / "runs" / run / "model").iterdir()) for run in "ab"]
    assert names[0] == names[1]
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(names[0])
    assert not list((tmp_path / "runs/.cache").rglob("*.tmp"))


def test_a_run_shares_no_small_file_with_the_cache(tmp_path: Path, train_file: Path) -> None:
    prepared(config_for(train_file), tmp_path / "runs/a")
    links = {file.name: file.stat().st_nlink for file in (tmp_path / "runs/a/model").iterdir()}
    assert {name for name, count in links.items() if count > 1} == {"model.safetensors"}
    assert (tmp_path / "runs/.cache").stat().st_mode & 0o777 == 0o700


def test_a_model_that_would_mix_documents_is_refused(
    tmp_path: Path, train_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "TOLERANCE", dict.fromkeys(attention.TOLERANCE, -1.0))
    for name in "ab":  # a refusal is not kept
        with pytest.raises(PackingError, match=r"data\.packing=none"):
            prepared(config_for(train_file), tmp_path / "runs" / name)


def test_a_second_run_imports_no_heavy_library(tmp_path: Path, train_file: Path) -> None:
    config = config_for(train_file)
    prepared(config, tmp_path / "runs/a")
    (tmp_path / "runs/b").mkdir()
    (tmp_path / "runs/b/run.json").write_text(encode_plan(plan_for(config)))
    program = (
        "import sys; from pathlib import Path; from conf.layout import RunFolder; from conf.record import read_plan;"
        "from train.data.prepare import prepare; folder = RunFolder(Path(sys.argv[1]));"
        "print(prepare(read_plan(folder.run_json), folder, lambda *_: None).reused,"
        "sorted({'torch', 'transformers', 'tokenizers', 'datasets'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "runs/b")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.split("\n")[-2] == "True []"


@pytest.mark.parametrize(
    ("change", "made_anew"),
    [
        (lambda config: setattr(config.data, "max_length", 16), {"documents"}),
        (lambda config: setattr(config.data, "on_long", LongRows.drop), {"documents"}),
        (lambda config: setattr(config.data, "completion_only_loss", False), {"documents"}),
        (
            lambda config: setattr(config.data, "prompt_template", "Q: {prompt}\n"),
            {"documents", "tokenizers", "models"},
        ),
        (
            lambda config: setattr(config.model, "tokenizer_vocab_size", 290),
            {"documents", "tokenizers", "models", "attention"},
        ),
        (lambda config: config.model.shape.update(hidden_size=32), {"models", "attention"}),
        (lambda config: setattr(config.train, "seed", 1), {"models"}),
        (lambda config: setattr(config.data, "max_bad_rows", 3), set()),
        (lambda config: setattr(config.optim, "learning_rate", 1.0), set()),
    ],
    ids=["length", "on_long", "loss", "template", "vocabulary", "shape", "seed", "budget", "learning_rate"],
)
def test_what_makes_the_cache_new(tmp_path: Path, train_file: Path, change: Any, made_anew: set[str]) -> None:
    def entries() -> set[tuple[str, str]]:
        return {(path.parent.name, path.name) for path in (tmp_path / "runs/.cache").glob("*/*")}

    config = config_for(train_file)
    prepared(config, tmp_path / "runs/a")
    before = entries()
    change(config)
    prepared(config, tmp_path / "runs/b")
    assert {kind for kind, _ in entries() - before} == made_anew


def test_other_content_under_the_same_name_is_new(tmp_path: Path, train_file: Path) -> None:
    config = config_for(train_file)
    first = prepared(config, tmp_path / "runs/a")
    train_file.write_bytes(train_file.read_bytes().replace(b"Bonjour", b"Bonsoir"))
    assert prepared(config, tmp_path / "runs/b").digest != first.digest


@pytest.mark.parametrize(
    ("name", "is_other"),
    [
        ("tokenizer.json", True),
        ("spiece.model", True),
        ("sentencepiece.bpe.model", True),
        ("source.spm", True),
        ("qwen.tiktoken", True),
        ("tekken.json", True),
        ("tokenizer.model.v3", True),
        ("tokenization_own.py", True),
        ("model.safetensors", False),
        ("pytorch_model.bin", False),
        ("README.md", False),
        (".nfs0001", False),
    ],
)
def test_a_tokenizer_is_known_by_its_files_whatever_their_names(tmp_path: Path, name: str, is_other: bool) -> None:
    model = ModelConfig(model_name_or_path=str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(b"before")
    before = tokenizer_identity(model, "")
    assert tokenizer_identity(model, "") == before
    (tmp_path / name).write_bytes(b"behind")
    assert (tokenizer_identity(model, "") != before) == is_other


def test_a_damaged_cache_is_made_again(tmp_path: Path, train_file: Path) -> None:
    config = config_for(train_file)
    first = prepared(config, tmp_path / "runs/a")
    tokens = Path(first.splits["train"].parts[0].folder) / "tokens.bin"
    content = tokens.read_bytes()
    tokens.write_bytes(content[:-2])
    assert not prepared(config, tmp_path / "runs/a").reused
    assert tokens.read_bytes() == content


def prepare_in_process(config: RunConfig, folder: Path, barrier: Any, results: Any) -> None:
    barrier.wait()
    results.put(prepared(config, folder).digest)


def test_several_starting_at_once_share_one_cache(tmp_path: Path, train_file: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results, config = context.Barrier(2), context.Queue(), config_for(train_file)
    config.model.init = ModelInit.pretrained  # without a model to draw or to check: torch would be imported twice
    config.data.packing = Packing.none
    processes = [
        context.Process(target=prepare_in_process, args=(config, tmp_path / "runs" / name, barrier, results))
        for name in "ab"
    ]
    for process in processes:
        process.start()
    assert len({results.get(timeout=120) for _ in processes}) == 1
    for process in processes:
        process.join()
    kinds = sorted(path.parent.name for path in (tmp_path / "runs/.cache").glob("*/[!.]*"))
    assert kinds == ["documents", "tokenizers"]
    assert not list((tmp_path / "runs/.cache").glob("*/.*"))
    assert all(len(read_prepared(RunFolder(tmp_path / "runs" / name)).open("train") or []) == 60 for name in "ab")


def test_random_models_depend_on_the_seed_alone(tmp_path: Path, train_file: Path) -> None:
    def weights(run: str, seed: int) -> bytes:
        config = config_for(train_file, cache_dir=str(tmp_path / run / "cache"))
        config.train.seed = seed
        prepared(config, tmp_path / run)
        return (tmp_path / run / "model/model.safetensors").read_bytes()

    assert weights("a", 1) == weights("b", 1) != weights("c", 2)


def test_broken_rows_over_the_budget_are_all_named(tmp_path: Path, train_file: Path) -> None:
    with train_file.open("ab") as file:
        file.write(b'{"prompt": \n{"prompt": "a"}\n{"prompt": "a", "response": "b"}\n')
    config = config_for(train_file, max_bad_rows=2)
    split = prepared(config, tmp_path / "runs/a").splits["train"]
    assert (split.documents, split.parts[0].rows, split.bad_rows) == (61, 63, 2)
    assert [row.line for row in split.parts[0].bad] == [61, 62]
    config.data.max_bad_rows = 1
    for run in ("a-prepared", "b-fresh"):  # the first finds the documents in the cache
        if run == "b-fresh":
            shutil.rmtree(tmp_path / "runs/.cache")
        with pytest.raises(DataError) as raised:
            prepared(config, tmp_path / "runs" / run)
        assert "2 broken rows, data.max_bad_rows=1 are tolerated" in str(raised.value)
        assert f"{train_file}:61: not JSON" in str(raised.value)
        assert f"{train_file}:62: no column 'response'" in str(raised.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"validation_size": 60}, r"leaves none of 60 documents"),
        ({"validation_file": "/none.jsonl"}, r"data\.validation_file=/none\.jsonl: no such file"),
        ({"max_length": 3}, r"nothing is left for train: 0 documents of 60 rows"),
        ({"columns": {"prompt": "frage"}}, r"no column 'frage'"),
        ({"train_file": None}, r"no training data"),
    ],
)
def test_data_that_cannot_be_used_is_refused(
    tmp_path: Path, train_file: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        prepared(config_for(**{"train_file": train_file, **change}), tmp_path / "runs/a")
    assert not (tmp_path / "runs/a/data.json").exists()


@pytest.mark.parametrize(("size", "count"), [(0.1, 6), (7, 7), (0.001, 1)])
def test_held_out_documents_are_apart(tmp_path: Path, train_file: Path, size: float, count: int) -> None:
    config = config_for(train_file, validation_size=size)
    found = prepared(config, tmp_path / "runs/a")
    kept, held_out = found.splits["train"].open(), found.splits["validation"].open()
    assert (len(kept), len(held_out)) == (60 - count, count)
    assert found.splits["validation"].tokens == int(held_out.lengths.sum())
    texts = [tuple(document.ids) for split in (kept, held_out) for document in split]
    assert len(set(texts)) == 60
    config.train.seed = 1
    other = prepared(config, tmp_path / "runs/b").splits["validation"].open()
    assert {tuple(document.ids) for document in other} != {tuple(document.ids) for document in held_out}


def test_worker_processes_make_the_same_documents(
    tmp_path: Path, train_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", 512)
    alone = prepared(config_for(train_file, prepare_workers=1), tmp_path / "a/run").splits["train"].parts[0]
    monkeypatch.setattr(encode, "POOL_BYTES", 0)
    pooled = prepared(config_for(train_file, prepare_workers=3), tmp_path / "b/run").splits["train"].parts[0]
    for name in ("tokens.bin", "targets.bin", "lengths.npy", "targets.npy"):
        assert (Path(alone.folder) / name).read_bytes() == (Path(pooled.folder) / name).read_bytes()
    assert Path(alone.folder).name == Path(pooled.folder).name


def test_the_demo_is_what_the_generator_makes() -> None:
    rows, files = demo_rows(), {path.name: path.read_bytes() for path in (ROOT / "conf/data/demo").iterdir()}
    assert files == bundled()
    for name in {name.rpartition("_")[0] for name in files} - {""}:
        trained, validated = (files[f"{name}_{split}.jsonl"].splitlines() for split in ("train", "validation"))
        assert not {*trained} & {*validated}
    words = [{row["response"] for row in rows[name]} for name in ("train", "validation")]
    assert len(rows["train"]) > 900
    assert not words[0] & words[1]


def test_gsm8k(tmp_path: Path) -> None:
    if not (GSM8K / "train.jsonl").is_file():
        pytest.skip(f"no GSM8K at {GSM8K}")
    config = config_for(
        GSM8K / "train.jsonl",
        validation_size=0.02,
        test_file=str(GSM8K / "test.jsonl"),
        columns={"prompt": "question", "response": "answer"},
        max_length=512,
    )
    config.model.tokenizer_vocab_size = 1024
    found = prepared(config, tmp_path / "runs/a")
    rows = [json.loads(line) for line in (GSM8K / "test.jsonl").read_text().splitlines()]
    test = found.splits["test"].open()
    assert (found.splits["train"].parts[0].rows, found.splits["validation"].documents, len(test)) == (
        3000,
        60,
        len(rows),
    )
    assert found.splits["test"].bad_rows == found.splits["test"].parts[0].dropped == 0

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "runs/a/model")
    seen = 0
    for row, document in zip(rows, test, strict=True):
        if len(document.ids) < 512:
            assert tokenizer.decode(document.prompt) == f"<|begin|>{row['question']}\n"
            assert tokenizer.decode(document.ids[document.target_mask]) == f"{row['answer']}<|end|>"
            seen += 1
    assert seen > 400
    assert np.all(test.lengths <= 512)
