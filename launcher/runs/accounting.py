"""Slurm's accounting as a witness of jobs that ended without a word of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from conf.outcome import State
from launcher.runs.standing import Standing
from launcher.send.scheduler import client_of
from slurm import states
from slurm.client import Account

_STATES = {"CANCELLED": State.cancelled, "TIMEOUT": State.time_limit, "PREEMPTED": State.preempted}
"""What an end means for the run, where it is not a failure."""


def with_accounting(standings: Sequence[Standing]) -> list[Standing]:
    """The standings, with what sacct knows of those whose job left nothing behind; it is asked once for each cluster.

    A node that failed, memory that ran out and a script that never started write no outcome.
    """
    asked = [standing for standing in standings if standing.wordless and standing.job.startswith("slurm:")]
    known: dict[str, Account] = {}
    for conf in {standing.plan.config.cluster.slurm_conf for standing in asked}:
        own = [standing for standing in asked if standing.plan.config.cluster.slurm_conf == conf]
        known |= {account.id: account for account in client_of(own[0].plan).accounting(_ids(own))}
    return [_told(standing, known) if standing in asked else standing for standing in standings]


def _ids(standings: Iterable[Standing]) -> set[str]:
    return {standing.job.removeprefix("slurm:") for standing in standings}


def _told(standing: Standing, known: dict[str, Account]) -> Standing:
    account = known.get(standing.job.removeprefix("slurm:"))
    if account is None or not states.is_final(account.state):
        return standing
    word = states.base(account.state)
    return replace(
        standing,
        state=_STATES.get(word, standing.state),
        reason=f"{standing.reason}; Slurm says {word}: {account.explanation}",
    )
