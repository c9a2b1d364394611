"""A file as `torch.save` would write it, taken apart: tensors copied into the arena, everything else beside them.

The object is saved with its tensors replaced by twins that lie in the arena. torch hands a storage's bytes on where
they lie, so what is written from there needs no second copy: it becomes a place in the arena. A storage that several
tensors share is copied, and written, once.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from train.checkpoint.arena import Arena
from train.checkpoint.engine_files import write_object
from train.checkpoint.jobs import Span, StagedFile


class Staging:
    """Takes objects by copying them into `arena`. `files` are named relative to `root`."""

    def __init__(self, arena: Arena, root: Path):
        self.files: list[StagedFile] = []
        self._arena = arena
        self._root = root
        arena.begin()

    def take(self, content: Any, path: Path) -> None:
        twins = _Twins(self._arena)
        file = _StagedContent(self._arena, twins.places)
        write_object(twins.of(content), file)
        self._arena.finish()
        self.files.append(StagedFile(str(path.relative_to(self._root)), tuple(file.spans)))


class _Twins:
    """Copies of an object's tensors in the arena. `places`: address of a twin's bytes → where they are in the arena."""

    def __init__(self, arena: Arena):
        self.places: dict[int, Span] = {}
        self._arena = arena
        self._storages: dict[tuple[int, int], torch.UntypedStorage] = {}
        self._seen: dict[int, Any] = {}

    def of(self, content: Any) -> Any:
        """The same object on twins. Tensors within other objects than dicts, lists and tuples stay, and are copied as
        torch writes them.
        """
        key = id(content)
        if key not in self._seen:
            self._seen[key] = self._made(content)
        return self._seen[key]

    def _made(self, content: Any) -> Any:
        if isinstance(content, Tensor):
            return self._tensor(content)
        if isinstance(content, dict):
            made = copy.copy(content)  # a state dict carries metadata as an attribute
            for name, value in content.items():
                made[name] = self.of(value)
            return made
        if type(content) is list:
            return [self.of(value) for value in content]
        if type(content) is tuple:
            return tuple(self.of(value) for value in content)
        return content

    def _tensor(self, tensor: Tensor) -> Tensor:
        # DeepSpeed numbers its flat weights by an attribute.
        marks = all(isinstance(value, str | int | float | None) for value in vars(tensor).values())
        plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided and marks
        if not plain or tensor.is_quantized or tensor.is_conj() or tensor.is_neg() or tensor.device.type == "meta":
            return tensor
        storage = self._storage(tensor.untyped_storage())
        twin = torch.empty(0, dtype=tensor.dtype)
        twin.set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())
        if isinstance(tensor, nn.Parameter):
            twin = nn.Parameter(twin, tensor.requires_grad)
        vars(twin).update(vars(tensor))
        return twin.requires_grad_(tensor.requires_grad)

    def _storage(self, storage: torch.UntypedStorage) -> torch.UntypedStorage:
        if not storage.nbytes():
            return storage if storage.device.type == "cpu" else torch.empty(0).untyped_storage()
        key = storage.data_ptr(), storage.nbytes()
        if key not in self._storages:
            self._storages[key] = self._copy(storage)
        return self._storages[key]

    def _copy(self, storage: torch.UntypedStorage) -> torch.UntypedStorage:
        span = self._arena.place(storage.nbytes())
        twin = self._arena.bytes_at(span)
        if storage.device.type == "cpu":
            self._arena.copy(span, storage.data_ptr())
        else:
            twin.copy_(torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage), non_blocking=True)
        self.places[twin.data_ptr()] = span
        return twin.untyped_storage()


class _StagedContent:
    """What torch writes into, as places in the arena."""

    def __init__(self, arena: Arena, places: dict[int, Span]):
        self.spans: list[Span] = []
        self._arena = arena
        self._places = places

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        if not view.nbytes:
            return 0
        address = np.frombuffer(view, np.uint8).ctypes.data
        span = self._places.get(address)
        if span is None or span.length != view.nbytes:
            span = self._arena.append(view)
        if self.spans and self.spans[-1].end == span.start:
            before = self.spans.pop()
            span = Span(before.start, before.length + span.length)
        self.spans.append(span)
        return view.nbytes

    def flush(self) -> None:
        """Nothing waits."""
