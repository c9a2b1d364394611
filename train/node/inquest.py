"""After an attempt was found to hang: what every rank is doing is kept, and the nodes agree on the rank at fault."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import msgspec

from conf.cause import NO_PROGRESS
from conf.flight_recorder import Collective, read_newest
from conf.layout import Attempt
from conf.outcome import Cause, Failure
from train.metrics.journal import Journal
from train.node.hang import Culprit, Stand, as_traceback, describe, find_culprit
from train.node.patient import Patient
from train.node.recorder import recording_of
from train.node.stacks import Seen, ask_all, wake

COLLECT_S = 20.0
"""Longest wait for what the other nodes found."""
STANDS = "stands"


class HangError(Exception):
    """No rank of the attempt moved any more; `failure` is told by the agent of the node at fault."""

    cause = Cause.lost_peer  # of the agents of other nodes

    def __init__(self, failure: Failure | None, words: str):
        super().__init__(words)
        self.failure = failure


class Board(Protocol):
    """Where the agents of an attempt tell each other things (`train.node.meeting`)."""

    def post(self, topic: str, text: str) -> None: ...

    def read(self, topic: str) -> dict[int, str]: ...

    def declare(self, fact: str) -> None: ...

    def declared(self, fact: str) -> bool: ...


@dataclass(frozen=True)
class Place:
    """Which node this is, and its ranks: `first_rank` is local rank 0's number."""

    attempt: Attempt
    scratch: Path
    node: int
    hosts: list[str]
    first_rank: int


@dataclass(frozen=True)
class Inquest:
    """One node's part in it; `pids` and `patients` by local rank."""

    place: Place
    board: Board
    journal: Journal
    pids: Mapping[int, int]
    patients: Mapping[int, Patient]

    def hold(self, gone: set[int]) -> HangError:
        """Ask the ranks, hear the other nodes, keep what was found: the verdict. `gone` nodes have no ranks left."""
        seen = ask_all(self.place.scratch, self.pids)
        own = {local_rank: self._stand(local_rank, one) for local_rank, one in seen.items()}
        self.board.post(STANDS, msgspec.json.encode(list(own.values())).decode())
        stands, silent = self._hear(gone)
        for local_rank, one in seen.items():
            if one.is_stopped:  # only now: it goes on from here
                one = wake(self.place.scratch, local_rank, self.pids[local_rank], one)
                own[local_rank] = replace(own[local_rank], stack=one.main_thread)
            self._keep(own[local_rank], one, local_rank)
        found = {stand.rank: stand for stand in [*stands, *own.values()]}
        return self._verdict(find_culprit(stands, self.place.hosts, silent), found)

    def _stand(self, local_rank: int, seen: Seen) -> Stand:
        patient = self.patients[local_rank]
        return Stand(
            rank=self.place.first_rank + local_rank,
            node=self.place.node,
            host=self.place.hosts[self.place.node],
            pid=self.pids[local_rank],
            phase=patient.signs.phase,
            step=patient.signs.step,
            quiet_s=round(patient.quiet_s, 1),
            limit_s=round(patient.limit_s, 1),
            state=seen.state,
            stack=seen.main_thread,
            newest=_newest(recording_of(self.place.scratch, local_rank)),
        )

    def _hear(self, gone: set[int]) -> tuple[list[Stand], list[int]]:
        """How the ranks of all nodes stand, and the nodes that did not say."""
        nodes = set(range(len(self.place.hosts))) - gone
        deadline = time.monotonic() + COLLECT_S
        while True:
            told = self.board.read(STANDS)
            silent = sorted(nodes - set(told))
            if not silent or time.monotonic() > deadline:
                stands = [stand for text in told.values() for stand in msgspec.json.decode(text, type=list[Stand])]
                return sorted(stands, key=lambda stand: stand.rank), silent
            time.sleep(0.1)

    def _keep(self, stand: Stand, seen: Seen, local_rank: int) -> None:
        """Write a rank's stacks and collectives into the attempt; a full disk changes no verdict."""
        attempt = self.place.attempt
        head = {name: value for name, value in asdict(stand).items() if name not in ("stack", "newest")}
        try:
            attempt.stack(stand.node, stand.rank).write_text(f"{msgspec.json.encode(head).decode()}\n{seen.text}")
            recording = recording_of(self.place.scratch, local_rank)
            if recording.exists():
                attempt.flight(stand.node, stand.rank).write_bytes(recording.read_bytes())
        except OSError as error:
            print(f"muster: the stacks of rank {stand.rank} could not be kept: {error}", flush=True)

    def _verdict(self, culprit: Culprit, stands: Mapping[int, Stand]) -> HangError:
        """The failure, told by the node of the rank at fault, or by the first node that still speaks."""
        stand = stands.get(culprit.rank)
        quiet_s = max((one.quiet_s for one in stands.values()), default=0.0)
        message = describe(stand, culprit.why) if stand else f"{NO_PROGRESS} for {quiet_s:.0f} s; {culprit.why}"
        host = self.place.hosts[culprit.node]
        speakers = {one.node for one in stands.values()}
        if self.place.node == min(speakers):
            about: dict[str, Any] = {"phase": stand.phase, "step": stand.step} if stand else {}
            self.journal.event("hang", rank=culprit.rank, node=culprit.node, host=host, reason=message, **about)
        failure = None
        if self.place.node == (culprit.node if culprit.node in speakers else min(speakers)):
            failure = Failure(
                rank=culprit.rank,
                node=culprit.node,
                host=host,
                time=time.time() - (stand.quiet_s if stand else quiet_s),
                cause=Cause.hang,
                message=message,
                traceback=as_traceback(stand.stack) if stand else "",
                pid=stand.pid if stand else 0,
            )
        who = f"rank {culprit.rank}" if culprit.rank >= 0 else f"node {culprit.node}"
        return HangError(failure, f"{who} on {host} hangs: {message}")


def _newest(recording: Path) -> dict[str, Collective]:
    try:
        return read_newest(recording)
    except (OSError, ValueError):
        return {}
