"""Why a run stands as it does: the first cause, what shows it, the story of its attempts, what to change."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

from conf.layout import RunFolder
from conf.outcome import Cause, Failure, Outcome, State, read_outcome
from conf.schema import Continuation
from launcher.plan.content import FREE_GROUPS, FREE_KEYS
from launcher.problems import NotFoundError
from launcher.runs.cause import RootCause, find_root_cause
from launcher.runs.read import read_lines
from launcher.runs.standing import Standing, stand
from launcher.why import evidence as evidences
from launcher.why import pending
from launcher.why.advice import Advice, advice_for
from launcher.why.change import Case, Change
from launcher.why.evidence import Evidence
from launcher.why.remedies import REMEDIES
from launcher.why.timeline import AttemptStory, tell
from launcher.why.verdict import Verdict, conclude
from launcher.why.witness import Witness, ask
from slurm.parse import Job
from slurm.refusals import culprit


@dataclass(frozen=True)
class Diagnosis:
    """What `muster why` says. `story` is the attempt in question; `verdict` None where nothing went wrong in it."""

    standing: Standing
    stories: list[AttemptStory]
    story: AttemptStory | None = None
    verdict: Verdict | None = None
    victims: tuple[int, ...] = ()
    log: str = ""
    evidence: list[Evidence] = field(default_factory=list)
    advice: Advice | None = None
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


def diagnose(folder: RunFolder, jobs: Mapping[str, Job] | None, number: int | None = None) -> Diagnosis:
    """The diagnosis of a run, of one attempt where `number` is given.

    `jobs` are those that Slurm still has; None where it could not be asked.

    Raises:
        NotFoundError: there is no attempt `number`.
    """
    standing = stand(folder, jobs)
    stories = tell(folder)
    witness = ask(folder, standing.plan, jobs)
    story = _chosen(stories, standing, number)
    if story is None:
        return _never_started(folder, standing, stories, witness)
    root = find_root_cause(story.attempt)
    found = evidences.find(folder, story.attempt)
    own = _written(read_outcome(folder.outcome), story)
    state, reason = _ended(story, stories, standing)
    job = _accounted(story, stories, standing)
    verdict = conclude(state, reason, root, own, found, witness.state_of(job))
    notes = _waiting_notes(folder, standing, witness) if number is None else []
    if verdict is None:
        return Diagnosis(standing, stories, story, notes=notes, commands=_watch_commands(standing))
    evidence = evidences.collect(folder, story.attempt, root, found)
    words = witness.words_on(job)
    if words:
        evidence.append(Evidence("Slurm's accounting", (words,)))
    said = "\n".join([verdict.message, root.traceback if root else "", *(line for e in evidence for line in e.lines)])
    advice = advice_for(verdict.cause, said)
    changes = _changes(standing, stories, story, verdict, advice, said)
    return Diagnosis(
        standing,
        stories,
        story,
        verdict,
        victims=_victims(root, verdict),
        log=evidences.place(folder, root.log) if root is not None else "",
        evidence=evidence,
        advice=advice,
        changes=changes,
        notes=notes,
        commands=_commands(standing, changes),
    )


def _chosen(stories: list[AttemptStory], standing: Standing, number: int | None) -> AttemptStory | None:
    """The attempt that was asked for; else the newest one that ended, where one has, and is of interest."""
    if number is not None:
        found = next((story for story in stories if story.number == number), None)
        if found is None:
            known = f"there are 0 to {stories[-1].number}" if stories else "there is none yet"
            raise NotFoundError(f"no attempt {number}; {known}")
        return found
    if not stories:
        return None
    if standing.live and standing.state is State.running:
        over = [story for story in stories[:-1] if story.state is not State.done]
        return over[-1] if over else stories[-1]
    return stories[-1]


def _ended(story: AttemptStory, stories: list[AttemptStory], standing: Standing) -> tuple[State | None, str]:
    """How an attempt ended; of the last one that nobody concluded, as the run stands."""
    if story.state is None and story is stories[-1] and not standing.live:
        return standing.state, standing.reason
    return story.state, story.reason


def _accounted(story: AttemptStory, stories: list[AttemptStory], standing: Standing) -> str:
    """The job of an attempt where Slurm's account of it is of this attempt; else empty.

    A requeued job keeps its id, and its account is of its last turn, be it one that never began.
    """
    later = any(each.job == story.job for each in stories if each.number > story.number)
    requeued = story.followed == "requeue" and standing.plan.continuation is Continuation.requeue
    return "" if later or requeued else story.job


def _written(outcome: Outcome | None, story: AttemptStory) -> Failure | None:
    return outcome.failure if outcome is not None and outcome.attempt == story.number else None


def _victims(root: RootCause | None, verdict: Verdict) -> tuple[int, ...]:
    return tuple(rank for rank in root.victims if rank >= 0 and rank != verdict.rank) if root is not None else ()


def _changes(
    standing: Standing,
    stories: list[AttemptStory],
    story: AttemptStory,
    verdict: Verdict,
    advice: Advice,
    said: str,
) -> list[Change]:
    failure = None
    if verdict.rank is not None:
        failure = Failure(
            verdict.rank, verdict.node or 0, verdict.host, verdict.time or 0.0, verdict.cause, verdict.message
        )
    saved = _steps_there(standing.folder)
    case = Case(
        plan=standing.plan,
        failure=failure,
        state=story.state or standing.state,
        words=said,
        saved=saved,
        save_s=story.save_s,
        lost_steps=_lost(story, stories, saved),
        in_data_step=failure is not None and failure.rank < 0 and story.attempt.data_failure.exists(),
    )
    return [change for name in advice.remedies for change in REMEDIES[name](case)]


def _lost(story: AttemptStory, stories: list[AttemptStory], saved: tuple[int, ...]) -> int:
    """Steps that were made in vain: those that the next attempt made again, else those after what was saved."""
    if story.last_step is None:
        return 0
    later = next((each.first_step for each in stories if each.number > story.number and each.first_step), None)
    kept = later - 1 if later is not None else max([step for step in saved if step <= story.last_step], default=0)
    return max(0, story.last_step - kept)


def _steps_there(folder: RunFolder) -> tuple[int, ...]:
    """The steps of the checkpoints in the folder, whether they verify or not."""
    try:
        names = [entry.name for entry in os.scandir(folder.checkpoints) if entry.name.startswith("step-")]
    except OSError:
        return ()
    return tuple(sorted(int(name.partition("-")[2]) for name in names if name.partition("-")[2].isdigit()))


def _commands(standing: Standing, changes: list[Change]) -> list[str]:
    """What to type next: the first change that has a key, as it would be tried; a job that lives needs none."""
    run = quote(standing.plan.run_id)
    if standing.live or standing.state is State.done:
        return _watch_commands(standing)
    keyed = next((change for change in changes if change.key and " " not in change.to), None)
    if keyed is None:
        return [f"muster resume {run}"]
    free = keyed.key.split(".")[0] in FREE_GROUPS or keyed.key in FREE_KEYS
    return [f"muster resume {run}{'' if free else ' --force'} {quote(f'{keyed.key}={keyed.to}')}"]


def _watch_commands(standing: Standing) -> list[str]:
    run = quote(standing.plan.run_id)
    return [f"muster status {run} -w"] if standing.live else [f"muster status {run}"]


def _never_started(folder: RunFolder, standing: Standing, stories: list[AttemptStory], witness: Witness) -> Diagnosis:
    """A run without an attempt: it waits, was refused, or left the queue before it began."""
    refusal = _refusal(folder)
    notes = _waiting_notes(folder, standing, witness)
    if refusal and not standing.live:
        option = culprit(refusal)
        verdict = Verdict(Cause.config, f"Slurm refused the job: {refusal}")
        changes = (
            [Change("the option that Slurm's words are about", f"cluster.{option.replace('-', '_')}")] if option else []
        )
        return Diagnosis(
            standing, stories, verdict=verdict, changes=changes, notes=notes, commands=_commands(standing, changes)
        )
    words = [line for sent in witness.accounts for line in [witness.words_on(f"slurm:{sent}")] if line]
    said = [Evidence("Slurm's accounting", tuple(words))] if words else []
    return Diagnosis(standing, stories, evidence=said, notes=notes, commands=_watch_commands(standing))


def _refusal(folder: RunFolder) -> str:
    """Slurm's words, where the newest submission was refused; else empty."""
    newest: dict[str, Any] = {}
    for line in read_lines(folder.submissions):
        newest = line
    return str(newest.get("error", "")) if newest.get("event") == "refused" else ""


def _waiting_notes(folder: RunFolder, standing: Standing, witness: Witness) -> list[str]:
    """What the jobs of the run that are in the queue wait for, and what helps."""
    notes = []
    for job in witness.jobs.values():
        if not job.is_pending:
            continue
        start = f"; Slurm expects to start it at {job.start}" if job.start not in ("", "N/A") else ""
        helps = pending.advice_on(job.reason).replace("JOB", job.id)
        notes.append(f"job {job.id} waits: {job.explanation}{start}" + (f". {helps}" if helps else ""))
    if not witness.asked and standing.live and standing.job.startswith("slurm:"):
        notes.append("Slurm could not be asked; this is what the files say")
    return notes
