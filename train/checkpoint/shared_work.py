"""Work in parts, done by the ranks of one node while all others wait in order.

One thread of rank 0 tells a story that now and then has parts to deal out; the main threads of all ranks follow it. No
collective lasts longer than a part and `BEAT_S`, however long the story is, so no timeout of the group sees it.

The ranks of one node alone: what one node writes into a shared folder another may not see for a minute.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from train.distributed import World, attempted

BEAT_S = 5.0
"""How often the ranks hear of each other."""

Work = Callable[[Any], Any]
Told = Callable[[int, int], None]
"""Hears on every rank of the parts that are done, and of all, whenever there are more."""


@dataclass(frozen=True)
class Parts:
    """Parts to deal out. `work` is a function of a module or a partial of one: it travels to the other ranks."""

    work: Work
    parts: Sequence[Any]


@dataclass(frozen=True)
class End:
    """The story is over, well or not."""

    error: Exception | None = None


@dataclass
class Share:
    """What one rank did of its parts: the results by number, or its first error."""

    results: dict[int, Any] = field(default_factory=dict)
    error: Exception | None = None


def neighbours(world: World) -> list[int]:
    """The ranks on rank 0's node; a collective."""
    hosts = world.gather(socket.gethostname())
    return [rank for rank, host in enumerate(hosts) if host == hosts[0]]


def follow(world: World, workers: list[int], story: Callable[[Callable[..., list[Any]]], None], told: Told) -> None:
    """Run `story` on rank 0, whose argument deals parts to `workers`; a collective. `told` hears of progress.

    Raises:
        OSError: as the story or a part of it said.
        RuntimeError: it failed for another reason.
    """
    asked: queue.Queue[Parts | End] = queue.Queue()
    answered: queue.Queue[list[Any] | Exception] = queue.Queue()
    thread = threading.Thread(target=_tell, args=(story, asked, answered), name="conversion", daemon=True)
    if world.first:
        thread.start()
    while True:
        word = world.said_by_first(_next(asked) if world.first else None)
        if isinstance(word, End):
            break
        if isinstance(word, Parts):
            done = _worked(world, workers, word, told)
            if world.first:
                answered.put(done)
    if world.first:
        thread.join()
    if word.error is not None:
        raise word.error


def _tell(
    story: Callable[[Callable[..., list[Any]]], None],
    asked: queue.Queue[Parts | End],
    answered: queue.Queue[list[Any] | Exception],
) -> None:
    def deal(work: Work, parts: Sequence[Any]) -> list[Any]:
        asked.put(Parts(work, parts))
        answer = answered.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    error = attempted(lambda: story(deal))
    if error is not None and not isinstance(error, OSError | RuntimeError):
        error = RuntimeError(f"{type(error).__name__}: {error}")
    asked.put(End(error))


def _next(asked: queue.Queue[Parts | End]) -> Parts | End | None:
    try:
        return asked.get(timeout=BEAT_S)
    except queue.Empty:
        return None


def _worked(world: World, workers: list[int], word: Parts, told: Told) -> list[Any] | Exception:
    """All results in order, or the first error; a collective of all ranks."""
    own = range(workers.index(world.rank), len(word.parts), len(workers)) if world.rank in workers else range(0)
    share, done = Share(), 0
    while done < len(word.parts):
        _work_a_while(word, own, share)
        error = world.first_error(share.error)
        if error is not None:
            return error
        before, done = done, int(world.sum([len(share.results)])[0])
        if done > before:
            told(done, len(word.parts))
    results = {number: result for each in world.gather(share.results) for number, result in each.items()}
    return [results[number] for number in range(len(word.parts))]


def _work_a_while(word: Parts, own: range, share: Share) -> None:
    until = time.monotonic() + BEAT_S
    for number in own[len(share.results) :]:
        try:
            share.results[number] = word.work(word.parts[number])
        except Exception as error:
            share.error = error
            return
        if time.monotonic() > until:
            return
