"""The report of a sweep: one HTML page that needs nothing beside it. Pure."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from launcher.report import frame
from launcher.sweep.curves import Curve, curves_picture
from launcher.sweep.importance import IN_WORDS, importances
from launcher.sweep.picture import comparison, varying
from launcher.sweep.ranking import Criterion, Ranked
from launcher.sweep.record import Sweep
from launcher.sweep.table import best_table


def report_page(
    sweep: Sweep, ranked: Sequence[Ranked], criterion: Criterion, curves: Mapping[str, Mapping[str, Curve]]
) -> str:
    """The page.

    Args:
        curves: by metric, then run id.
    """
    pictures = [curves_picture(runs, ranked, metric) for metric, runs in curves.items()]
    sections = [
        frame.section("Best", frame.card(*_best(ranked))),
        frame.section("Comparison", frame.card(comparison(ranked, criterion).in_page)),
        frame.section("Curves", *(frame.card(picture) for picture in pictures)),
        frame.section("Importance of parameters", frame.card(*_importance(ranked))),
        frame.section("Points", frame.card(_table(ranked, criterion))),
        frame.section("Reproduce", frame.card(frame.preformatted(_command(sweep)))),
    ]
    there = [each for each in sections if each]
    head = [
        f"<header><h1>{frame.plain(sweep.id)}</h1>",
        frame.paragraph(f"{len(ranked)} points: {_states(ranked)}. Compared by {criterion.words}.", "soft"),
        "</header>",
    ]
    return frame.page(sweep.id, [*head, frame.navigation(there), *there, frame.written(time.time())])


def _states(ranked: Sequence[Ranked]) -> str:
    states = Counter(one.result.state for one in ranked)
    return ", ".join(f"{count} {state}" for state, count in states.most_common())


def _command(sweep: Sweep) -> str:
    import shlex

    return f"muster {sweep.verb} -m {shlex.join(sweep.words)}"


def _best(ranked: Sequence[Ranked]) -> list[str]:
    if not ranked or ranked[0].place is None:
        return [frame.paragraph("No point is done yet.")]
    best = ranked[0].result
    rows = [(name, f"{value:.6g}") for name, value in sorted(best.metrics.items()) if name[:5] != "perf/"]
    return [f"<p><b>{frame.plain(best.point.label)}</b></p>", frame.pairs([*rows, ("folder", best.point.run_dir)])]


def _importance(ranked: Sequence[Ranked]) -> list[str]:
    done = [one for one in ranked if one.place is not None and one.value is not None]
    keys = varying(done)
    values = {key: [one.result.values[key] for one in done] for key in keys}
    shares = importances(values, [one.value for one in done if one.value is not None])
    rows = [
        (key, "too few points to tell" if share is None else f"{share:.2f}", share) for key, share in shares.items()
    ]
    return [frame.bars(rows), frame.paragraph(IN_WORDS, "soft")]


def _table(ranked: Sequence[Ranked], criterion: Criterion) -> str:
    columns, rows = best_table(ranked, criterion)
    return frame.table(columns, rows, best="1")
