"""The pages of keys and commands are what the code says, and the keys behind them."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.commands import commands
from launcher.compose.keys import all_keys, find_key, keys, meant_by
from launcher.compose.reference import describe, reference, undocumented

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_is_what_the_schema_says() -> None:
    assert (DOCS / "reference.md").read_text() == reference(), (
        "run: python -m launcher.compose.reference > docs/reference.md"
    )


def test_the_commands_are_what_the_parsers_say() -> None:
    assert (DOCS / "commands.md").read_text() == commands(), "run: python -m launcher.commands > docs/commands.md"


def test_every_key_is_documented() -> None:
    assert undocumented() == []
    assert len(all_keys()) > 100


def test_keys_below_a_prefix() -> None:
    assert [key.path for key in keys("cluster.network")] == [
        "cluster.network.interface",
        "cluster.network.host_suffix",
        "cluster.network.ib_hcas",
    ]
    assert describe("optim.learning_rate") == "optim.learning_rate  (number; 1e-05)\n  Peak learning rate."
    assert describe("nothing") == ""


def test_open_mappings_own_what_lies_in_them() -> None:
    owner = find_key("parallel.deepspeed.zero_optimization.stage")
    assert owner is not None
    assert owner.path == "parallel.deepspeed"
    assert find_key("optim.learning_rate.x") is None


MEANT = [
    ("lr", "optim.learning_rate"),
    ("batch_size", "train.global_batch_size"),
    ("cluster.tiem", "cluster.time"),
    ("train.epochs", "train.num_train_epochs"),
    ("seed", "train.seed"),
    ("optm", "optim=…"),
    ("zzzzzz", ""),
    ("method.r", "method.peft.r"),
    ("method.lora_r", "method.peft.r"),
    ("method.lora_alpha", "method.peft.lora_alpha"),
    ("method.lora_dropout", "method.peft.lora_dropout"),
    ("method.target_modules", "method.peft.target_modules"),
    ("method.num_virtual_tokens", "method.peft.num_virtual_tokens"),
    ("peft.r", "method.peft.r"),
    ("lora_r", "method.peft.r"),
    ("tokenizer_name_or_path", "model.tokenizer_name_or_path"),
    ("num_virtual_tokens", ""),
]


@pytest.mark.parametrize(("path", "expected"), MEANT, ids=[path for path, _ in MEANT])
def test_what_a_person_may_have_meant(path: str, expected: str) -> None:
    assert meant_by(path).split(", ")[0] == expected
