"""The points of a sweep that failed, by their first cause: many points often fail for one reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conf.outcome import Cause, State
from launcher.send.scheduler import live_jobs
from launcher.sweep.record import Sweep, SweptPoint
from launcher.why.advice import advice_for
from launcher.why.diagnosis import Diagnosis, diagnose


@dataclass(frozen=True)
class FailedPoint:
    """A point with its diagnosis; `cause` is None where nothing went wrong but it is no further."""

    point: SweptPoint
    diagnosis: Diagnosis

    @property
    def cause(self) -> Cause | None:
        return self.diagnosis.verdict.cause if self.diagnosis.verdict else None

    @property
    def words(self) -> str:
        """The first line of what was said."""
        verdict = self.diagnosis.verdict
        text = verdict.message if verdict else " ".join(self.diagnosis.notes) or self.diagnosis.standing.reason
        return text.splitlines()[0] if text else ""


def failed_points(sweep: Sweep) -> list[FailedPoint]:
    """The points that ended badly or wait, in their order."""
    there = [point for point in sweep.points if point.folder.run_json.is_file()]
    jobs = live_jobs(point.folder for point in there)
    found = [FailedPoint(point, diagnose(point.folder, jobs)) for point in there]
    return [each for each in found if each.cause is not None or _waits(each)]


def _waits(each: FailedPoint) -> bool:
    return each.diagnosis.standing.state in (State.queued, State.prepared)


def point_lines(failed: Sequence[FailedPoint], points: int) -> Iterator[str]:
    """The page: a class with its points and what was said of the first, then the next class."""
    ended = [each for each in failed if each.cause is not None]
    waiting = len(failed) - len(ended)
    yield f"{len(ended)} of {points} points ended badly" + (f", {waiting} wait" if waiting else "")
    by_cause: dict[Cause, list[FailedPoint]] = {}
    for each in ended:
        if each.cause is not None:
            by_cause.setdefault(each.cause, []).append(each)
    for cause, own in sorted(by_cause.items(), key=lambda item: -len(item[1])):
        yield ""
        yield f"{cause.value}: {advice_for(cause, own[0].words).title}"
        for each in own:
            yield f"  {each.point.label}"
            yield f"    {each.point.run_id}: {each.words}"
    first = ended[0] if ended else failed[0] if failed else None
    if first is not None:
        yield ""
        yield f"more of one: muster why {first.point.run_id}"
