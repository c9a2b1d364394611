"""After an attempt: reads what it left, asks `train.node.decide`, writes the outcome and the job script's word."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from conf.failure_texts import telling_lines
from conf.files import write_atomically
from conf.layout import MANIFEST, Attempt, RunFolder
from conf.outcome import AgentReport, Cause, Failure, State, read_outcome, read_stop, write_outcome
from conf.record import read_plan
from train.metrics.journal import Journal, read_events
from train.node.decide import Decision, History, Settings, Verdict, decide
from train.node.env import NodeEnv
from train.node.judge import Judgement, judge_nodes, sack
from train.node.last_words import read_failures, read_reports
from train.node.log_tail import read_tail
from train.node.script import is_script, newest_steps, script_outcome
from train.node.settings import read_settings
from train.node.suspicion import remember

ASIDE = ("prepare", "export")
"""Verbs of attempts that train nothing."""
SCANNED = 400
"""Lines at the end of a log in which Slurm's word on an end is looked for."""


def conclude(folder: RunFolder, environment: NodeEnv) -> Decision:
    """Decide what comes after this attempt at training and write it down."""
    number = environment.attempt
    history = read_history(folder, number, environment.nodes)
    attempt = folder.attempt(number)
    settings = Settings() if environment.is_local else read_settings(folder)
    failures, reports, stop = read_failures(attempt), read_reports(attempt), read_stop(folder.stop)
    failures += slain_for_memory(attempt, environment, reports)
    if is_script(folder):
        own = script_outcome(folder, environment, reports, stop)
    else:
        written = read_outcome(folder.outcome)
        own = written if written is not None and written.attempt == number else None
    judgement = Judgement()
    if not environment.is_local:
        judgement = judge_nodes(folder, environment, failures, reports, settings.leave_out)
    decision = decide(own, stop, reports, failures, history, settings, time.time(), stuck=judgement.stuck)
    outcome = decision.outcome
    if outcome.checkpoint is None and history.newest_step and not is_script(folder):
        outcome = replace(outcome, checkpoint=str(folder.checkpoint(history.newest_step)))
    write_outcome(folder.outcome, outcome)
    journal = Journal(folder, number)
    if history.newest_step not in noted_steps(folder) and history.newest_step:
        journal.event("checkpoint", step=history.newest_step)  # once: or each attempt to come would count it as its own
    state, verdict = outcome.state.value, decision.verdict.value
    if own is None:
        journal.event("attempt_ended", state=state, reason=outcome.reason)
    journal.event("decision", decision=verdict, state=state, reason=outcome.reason)
    if outcome.state is State.failed and judgement.blames:
        remember(folder, read_plan(folder.run_json), number, judgement.blames)
    sacked = sack(folder, environment, judgement, settings.leave_out) if decision.verdict is Verdict.requeue else []
    if sacked:
        write_word(attempt.leave_out, ",".join(sacked))
    write_word(attempt.decision, verdict)
    unsaid = own is None or own.reason != outcome.reason
    if outcome.state is State.failed and unsaid:
        tell_tracker(folder, number, decision.verdict)
    print(f"muster: {verdict}: {state}: {outcome.reason}", flush=True)
    return replace(decision, outcome=outcome)


def slain_for_memory(attempt: Attempt, environment: NodeEnv, reports: Sequence[AgentReport]) -> list[Failure]:
    """What Slurm said where it ended a step, agents included, for want of memory; dated after all other words."""
    gone = sorted(set(range(environment.nodes)) - {report.node for report in reports})
    logs = [(node, log) for node in gone for log in (attempt.agent_log(node), attempt.job_log)]
    for node, log in logs:
        for line, cause in telling_lines(read_tail(log, SCANNED)):
            if cause is Cause.oom and line.startswith("slurmstepd:"):
                return [Failure(-1, node, environment.name_of(node), time.time(), cause, line)]
    return []


def tell_tracker(folder: RunFolder, attempt: int, verdict: Verdict) -> None:
    """Let W&B know of an end that the ranks could not tell it; whatever goes wrong with that, the decision stands."""
    from train.node.start import own_argv
    from train.tracking.last_word import is_heard, start_last_word

    with contextlib.suppress(OSError, ValueError):
        if is_heard(read_plan(folder.run_json)):
            start_last_word(own_argv("last-word", folder.path), attempt, verdict is Verdict.requeue)


def read_history(folder: RunFolder, attempt: int, nodes: int) -> History:
    """What the attempts have saved, as `checkpoint` events and the folder say, and which of them did something else."""
    steps: dict[int, int] = {}
    for event in read_events(folder):
        number, step = event.get("attempt"), event.get("step")
        if isinstance(number, int) and isinstance(step, int) and event.get("event") == "checkpoint":
            steps[number] = max(step, steps.get(number, 0))
    newest = newest_published(folder)
    if newest > max(steps.values(), default=0):
        steps[attempt] = newest  # published beside the training, before rank 0 could say so
    if not steps and is_script(folder):
        steps = newest_steps(folder)  # a person's own program may say nothing of its checkpoints
    aside = frozenset(number for number in range(attempt) if _read_job(folder, number).get("verb") in ASIDE)
    since = _read_job(folder, attempt).get("since", 0)
    return History(attempt, nodes, steps, aside, since if isinstance(since, int) else 0)


def noted_steps(folder: RunFolder) -> set[int]:
    """The steps whose checkpoint an event tells of."""
    return {event["step"] for event in read_events(folder) if event.get("event") == "checkpoint" and "step" in event}


def newest_published(folder: RunFolder) -> int:
    """The newest step that has a checkpoint with its manifest in place; 0 without one."""
    found = (re.fullmatch(r"step-(\d+)", path.parent.name) for path in folder.checkpoints.glob(f"step-*/{MANIFEST}"))
    return max((int(name[1]) for name in found if name), default=0)


def _read_job(folder: RunFolder, attempt: int) -> dict[str, Any]:
    """What body.sh wrote down of an attempt: its `verb`, and the attempt that it goes on `since` by itself."""
    try:
        job = json.loads(folder.attempt(attempt).job.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return job if isinstance(job, dict) else {}


def write_word(path: Path, word: str) -> None:
    """Write a file of one line for the job script."""
    write_atomically(path, f"{word}\n".encode(), path.parent.stat().st_mode & 0o666)
