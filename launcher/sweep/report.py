"""The report of a sweep: one HTML page that needs nothing beside it. Pure."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from launcher.sweep.curves import Curve, curves_picture
from launcher.sweep.importance import IN_WORDS, importances
from launcher.sweep.picture import comparison_picture, varying
from launcher.sweep.ranking import Criterion, Ranked
from launcher.sweep.record import Sweep
from launcher.sweep.table import best_table

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .2rem .7rem; text-align: left; border-bottom: 1px solid #ddd }
td.number { text-align: right; font-variant-numeric: tabular-nums } tr.best { background: #fdecec }
.bar { background: #4c78a8; height: .8rem; display: inline-block } .wide { overflow-x: auto } code { font-size: 90% }
"""


BEST = ' class="best"'


def report_page(
    sweep: Sweep, ranked: Sequence[Ranked], criterion: Criterion, curves: Mapping[str, Mapping[str, Curve]]
) -> str:
    """The page.

    Args:
        curves: by metric, then run id.
    """
    states = Counter(one.result.state for one in ranked)
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
    when = time.strftime("%Y-%m-%d %H:%M")
    parts = [
        f"<h1>{escape(sweep.id)}</h1>",
        f"<p>{len(ranked)} points: {escape(counts)}. Compared by {escape(criterion.words)}. Written {when}.</p>",
        f"<p><code>muster {escape(sweep.verb)} -m {escape(' '.join(sweep.words))}</code></p>",
        _best(ranked),
        f'<h2>Comparison</h2><div class="wide">{comparison_picture(ranked, criterion)}</div>',
        "<h2>Curves</h2>",
        *(f'<div class="wide">{curves_picture(runs, ranked, metric)}</div>' for metric, runs in curves.items()),
        _importance(ranked),
        f'<h2>Points</h2><div class="wide">{_table(ranked, criterion)}</div>',
    ]
    head = f'<meta charset="utf-8"><title>{escape(sweep.id)}</title><style>{STYLE}</style>'
    return "\n".join(["<!doctype html>", f'<html lang="en"><head>{head}</head><body>', *parts, "</body></html>\n"])


def _best(ranked: Sequence[Ranked]) -> str:
    if not ranked or ranked[0].place is None:
        return "<h2>Best</h2><p>No point is done yet.</p>"
    best = ranked[0].result
    metrics = ", ".join(f"{name} {value:.6g}" for name, value in sorted(best.metrics.items()) if name[:5] != "perf/")
    return (
        f"<h2>Best</h2><p><b>{escape(best.point.label)}</b><br>{escape(metrics)}<br>"
        f"<code>{escape(best.point.run_dir)}</code></p>"
    )


def _importance(ranked: Sequence[Ranked]) -> str:
    done = [one for one in ranked if one.place is not None and one.value is not None]
    keys = varying(done)
    values = {key: [one.result.values[key] for one in done] for key in keys}
    shares = importances(values, [one.value for one in done if one.value is not None])
    rows = []
    for key, share in shares.items():
        bar = "" if share is None else f'<span class="bar" style="width: {share * 20:.2f}rem"></span>'
        told = "too few points to tell" if share is None else f"{share:.2f}"
        rows.append(f'<tr><td><code>{escape(key)}</code></td><td class="number">{told}</td><td>{bar}</td></tr>')
    return f"<h2>Importance of parameters</h2><p>{escape(IN_WORDS)}</p><table>{''.join(rows)}</table>"


def _table(ranked: Sequence[Ranked], criterion: Criterion) -> str:
    columns, rows = best_table(ranked, criterion)
    lines = ["<tr>" + "".join(f"<th>{escape(column)}</th>" for column in columns) + "</tr>"]
    for row in rows:
        cells = "".join(f"<td{_kind(cell)}>{escape(cell)}</td>" for cell in row)
        lines.append(f"<tr{BEST if row[0] == '1' else ''}>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _kind(cell: str) -> str:
    try:
        float(cell)
    except ValueError:
        return ""
    return ' class="number"'
