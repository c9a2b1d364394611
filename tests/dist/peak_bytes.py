"""Bytes of the tensors that live in a process, operation by operation, and the most that there were at once.

torch's dispatcher shows every operation its results; a weak reference to their memory says when it is given back. What
collectives of gloo take for themselves in their own threads is not seen: on GPUs it would be NCCL's.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Weighed(TorchDispatchMode):
    """While it is entered, `now` are the bytes of the tensors made since, or adopted, and `most` the highest count."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.adopt(tree_leaves(result))
        return result

    def adopt(self, things: Iterable[Any]) -> None:
        """Count the memory of these tensors from now on."""
        for thing in things:
            if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
                self._count(thing.untyped_storage())

    def begin(self) -> None:
        """A new moment, whose `most` starts from what there is."""
        gc.collect()
        self.most = self.now

    def _count(self, memory: torch.UntypedStorage) -> None:
        key, size = memory._cdata, memory.nbytes()
        if not size or key in self._alive:
            return

        def given_back(_: Any) -> None:
            del self._alive[key]
            self.now -= size

        self._alive[key] = weakref.ref(memory, given_back)
        self.now += size
        self.most = max(self.most, self.now)


def begin_afresh() -> None:
    """From now on `tensors` lists what is made from here, and searches no more than that."""
    gc.collect()
    gc.freeze()


def tensors() -> list[torch.Tensor]:
    """Tensors that Python knows of in this process, and their gradients."""
    found = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor)]
    return found + [one.grad for one in found if one.is_leaf and one.grad is not None]
