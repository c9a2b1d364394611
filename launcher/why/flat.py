"""A diagnosis as plain JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from launcher.why.diagnosis import Diagnosis
from launcher.why.timeline import AttemptStory


def flat(diagnosis: Diagnosis) -> dict[str, Any]:
    """The object that `muster why --json` prints; `cause` is null where nothing went wrong."""
    standing, verdict = diagnosis.standing, diagnosis.verdict
    advice = diagnosis.advice
    return {
        "id": standing.plan.run_id,
        "folder": str(standing.folder.path),
        "state": standing.state.value,
        "reason": standing.reason,
        "live": standing.live,
        "attempt": diagnosis.story.number if diagnosis.story else None,
        "cause": verdict.cause.value if verdict else None,
        "rank": verdict.rank if verdict else None,
        "node": verdict.node if verdict else None,
        "host": verdict.host if verdict else "",
        "time": verdict.time if verdict else None,
        "message": verdict.message if verdict else "",
        "victims": list(diagnosis.victims),
        "log": diagnosis.log,
        "title": advice.title if advice else "",
        "meaning": advice.meaning if advice else "",
        "again": advice.again.name if advice else None,
        "evidence": [dataclasses.asdict(each) for each in diagnosis.evidence],
        "attempts": [_story(story) for story in diagnosis.stories],
        "changes": [dataclasses.asdict(change) for change in diagnosis.changes],
        "advice": list(advice.change) if advice else [],
        "notes": diagnosis.notes,
        "commands": diagnosis.commands,
    }


def _story(story: AttemptStory) -> dict[str, Any]:
    return {
        "attempt": story.number,
        "verb": story.verb,
        "job": story.job,
        "hosts": list(story.hosts),
        "started": story.started,
        "ended": story.ended,
        "state": story.state.value if story.state else None,
        "reason": story.reason,
        "followed": story.followed or None,
        "first_step": story.first_step,
        "last_step": story.last_step,
        "saved": list(story.saved),
        "rolled_back": [{"step": at, "to": to} for at, to in story.rolled_back],
    }
