"""A staged file is, byte for byte, what `torch.save` writes; what tensors share is copied once."""

from __future__ import annotations

import io
import mmap
import os
import resource
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from train.checkpoint.arena import PART, Arena, NoRoomError
from train.checkpoint.engine_files import write_object
from train.checkpoint.jobs import Write
from train.checkpoint.staging import Staging
from train.checkpoint.storage import sha256_of
from train.checkpoint.writer import answer

CPU = torch.device("cpu")


@dataclass
class Scaler:
    """An object that is no container, as DeepSpeed's loss scaler."""

    scale: torch.Tensor


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embedding.weight
        self.norm = nn.BatchNorm1d(4)


def marked(tensor: torch.Tensor, **attributes: Any) -> torch.Tensor:
    """A tensor of the same values with attributes, as DeepSpeed gives them some."""
    made = tensor.clone()
    vars(made).update(attributes)
    return made


FLAT = torch.arange(1000, dtype=torch.float32)
CONTENTS: dict[str, Any] = {
    "nothing": {},
    "no tensors": {"step": 3, "words": ["a", ("b", None)], "shape": torch.Size([2, 3])},
    "tensors": {"a": torch.randn(100, 7), "b": [torch.ones(3, dtype=torch.bfloat16), torch.tensor(4)]},
    "views of one storage": {"a": FLAT[10:20], "b": FLAT.view(10, 100).t(), "whole": FLAT},
    "the same tensor twice": [FLAT, FLAT],
    "parameters": {"p": nn.Parameter(torch.randn(5)), "frozen": nn.Parameter(torch.randn(5), requires_grad=False)},
    "a leaf that has a gradient": {"flat": torch.randn(20, requires_grad=True)},
    "a state dict with tied weights": Small().state_dict(),
    "empty tensors": {"placeholder": torch.empty(0), "other": torch.empty(0, 5, dtype=torch.int8)},
    "tensors in objects": {"scaler": Scaler(torch.randn(3000))},
    "an ordered mapping": OrderedDict(z=torch.ones(2), a=torch.zeros(2)),
    "bits": {"bool": torch.tensor([True, False]), "complex": torch.randn(3, dtype=torch.complex64)},
    "a conjugate": {"c": torch.randn(3, dtype=torch.complex64).conj()},
    "a tensor that is marked": {"flat": marked(torch.randn(9), ds_id="0_74"), "other": marked(FLAT, of=FLAT[:2])},
    "sparse": {"s": torch.eye(3).to_sparse()},
}


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena(CPU)
    yield made
    made.close()


def staged(arena: Arena, contents: dict[str, Any]) -> dict[str, bytes]:
    """What a writer would find for each object, all of them in one save."""
    staging = Staging(arena, Path("/checkpoint"))
    for name, content in contents.items():
        staging.take(content, Path("/checkpoint/states") / name)
    if not arena.size:
        return {}
    with mmap.mmap(arena.descriptor, arena.size, prot=mmap.PROT_READ) as memory:
        return {
            file.name.removeprefix("states/"): b"".join(memory[span.start : span.end] for span in file.spans)
            for file in staging.files
        }


def plain(content: Any) -> bytes:
    file = io.BytesIO()
    write_object(content, file)
    return file.getvalue()


def test_staged_files_are_what_torch_writes(arena: Arena) -> None:
    for _ in range(2):  # the second time in memory that is there
        found = staged(arena, CONTENTS)
        assert list(found) == list(CONTENTS)
        for name, content in CONTENTS.items():
            assert found[name] == plain(content), name


def test_what_is_shared_is_copied_once(arena: Arena) -> None:
    large = marked(torch.zeros(1 << 20), ds_id="0_74")
    staged(arena, {"a": {"whole": large, "view": large[:5], "again": large.view(-1, 2)}})
    assert large.nbytes < arena.size < 1.5 * large.nbytes + (1 << 22)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_large_storage_is_copied_in_parts(threads: int, arena: Arena) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        content = {"t": torch.arange((4 * PART + 12) // 4, dtype=torch.int32)}
        assert staged(arena, {"a": content}) == {"a": plain(content)}
    finally:
        torch.set_num_threads(before)


def test_later_changes_are_not_seen(arena: Arena) -> None:
    tensor = torch.zeros(1000)
    before = plain({"t": tensor})
    staging = Staging(arena, Path("/"))
    staging.take({"t": tensor}, Path("/a"))
    tensor.fill_(1.0)
    with mmap.mmap(arena.descriptor, arena.size) as memory:
        assert b"".join(memory[span.start : span.end] for span in staging.files[0].spans) == before


def test_the_memory_grows_within_a_save_and_is_kept(arena: Arena) -> None:
    contents = {str(number): {"t": torch.full((1 << 20,), float(number))} for number in range(5)}
    assert staged(arena, contents) == {name: plain(content) for name, content in contents.items()}
    size = arena.size
    staged(arena, contents)
    assert arena.size == size


def test_memory_that_was_prepared_is_enough(arena: Arena) -> None:
    arena.prepare(10 << 20)
    assert staged(arena, {"a": {"t": torch.ones(1 << 20)}}) == {"a": plain({"t": torch.ones(1 << 20)})}
    assert arena.size == 12 << 20


def test_a_copy_that_does_not_fit_is_refused_in_words() -> None:
    crowded = Arena(CPU, ranks_on_node=10**9)
    with pytest.raises(NoRoomError, match=r"a second copy of .* does not fit"):
        Staging(crowded, Path("/")).take({"t": torch.ones(100)}, Path("/a"))
    crowded.close()


def test_a_writer_makes_the_same_files(arena: Arena, tmp_path: Path) -> None:
    staging = Staging(arena, tmp_path)
    for name, content in CONTENTS.items():
        staging.take(content, tmp_path / "states" / name)
    answer = Write(tmp_path, tuple(staging.files), arena.descriptor, arena.size).run()
    assert answer.error is None
    assert [file.name for file in answer.files] == [f"states/{name}" for name in CONTENTS]
    for file, content in zip(answer.files, CONTENTS.values(), strict=True):
        assert (tmp_path / file.name).read_bytes() == plain(content)
        assert (file.size, file.sha256) == sha256_of(tmp_path / file.name)
    loaded = torch.load(tmp_path / "states" / "a state dict with tied weights", weights_only=True)
    assert loaded["embedding.weight"].data_ptr() == loaded["head.weight"].data_ptr()


def test_a_full_disk_is_the_writers_answer(arena: Arena, tmp_path: Path) -> None:
    staging = Staging(arena, tmp_path)
    staging.take({"t": torch.ones(100_000)}, tmp_path / "states" / "a")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        given = answer(Write(tmp_path, tuple(staging.files), arena.descriptor, arena.size))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (given.files, given.error) == ([], "File too large")


def test_the_memory_is_gone_with_its_owner() -> None:
    owner = Arena(CPU)
    owner.prepare(1 << 20)
    owner.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(owner.descriptor)
