"""Work done ahead of whoever asks for it, in one thread, so that a step does not wait for its data."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch  # the data step reads ahead too, and does without torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_NOTHING = object()


def ahead(
    make: Callable[[Item], Result],
    items: Iterable[Item],
    count: int,
    device: torch.device | None = None,
    finish: bool = False,
) -> Generator[Result]:
    """`make` over `items`, in order, `count` results ahead of the one that is asked for.

    Args:
        device: where the thread may put memory; a GPU has to be named, or it would be GPU 0.
        finish: once closed, still make what was begun. For work in which ranks meet: all ranks have begun equally much.
    """
    pending: deque[Future[Result]] = deque()
    # A thread begins on GPU 0: pinning memory there would give every rank a context on it.
    on_device = (_enter_device, (device,)) if device is not None and device.type == "cuda" else (None, ())
    pool = ThreadPoolExecutor(1, "ahead", *on_device)
    try:
        for item in items:
            pending.append(pool.submit(make, item))
            if len(pending) > count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=not finish)


def _enter_device(device: torch.device) -> None:
    import torch

    torch.cuda.set_device(device)


def read_ahead(items: Iterator[Item], count: int) -> Generator[Item]:
    """The same items, `count` of them read before they are asked for; an endless iterator is fine."""
    with contextlib.closing(ahead(lambda _: next(items, _NOTHING), itertools.repeat(None), count)) as found:
        for item in found:
            if item is _NOTHING:
                return
            yield item  # type: ignore[misc]  # only the end is no Item
