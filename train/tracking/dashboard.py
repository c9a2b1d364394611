"""`muster dashboard`: a workspace and a report on W&B. The owner of wandb_workspaces, which is imported late."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from conf.board import Board
from conf.files import write_atomically
from train.tracking.sdk import STEP, unreachable, words_of
from train.tracking.sections import Chart, predictions_of, sections_of

REACH_S = 10.0
COLUMNS, WIDTH, HEIGHT = 3, 8, 6
"""Panels beside each other, and the units of W&B's grid that each takes."""
MISSING = "muster dashboard needs wandb-workspaces in {python}: pip install 'muster[dashboard]'"


def dashboard(content: bytes, dry_run: bool) -> int:
    """Save the dashboard of a board (JSON), or print what would be saved; the exit status."""
    board = msgspec.json.decode(content, type=Board)
    try:
        import wandb_workspaces.workspaces  # noqa: F401
    except ImportError:
        print(MISSING.format(python=sys.executable), file=sys.stderr)
        return 1
    if dry_run:
        print(json.dumps(preview(board), indent=2))
        return 0
    problem = unreachable(REACH_S)
    if problem is None:
        try:
            print(save(board))
            return 0
        except Exception as error:
            problem = words_of(error)  # wandb raises errors of many kinds
    print(f"muster dashboard: not saved: {problem}; --dry-run prints it", file=sys.stderr)
    return 1


def preview(board: Board) -> dict[str, Any]:
    """The workspace and the report as W&B would get them; asks nobody."""
    parts = {"workspace": make_workspace(board, board.entity or ""), "report": make_report(board, "", "")}
    return {
        name: part._to_model().model_dump(mode="json", by_alias=True, exclude_none=True) for name, part in parts.items()
    }


def save(board: Board) -> str:
    """Save both, over those that were saved before; where they are, in words."""
    import wandb

    entity = board.entity or str(wandb.Api().default_entity)
    kept = _read(board)
    workspace, report = make_workspace(board, entity), make_report(board, entity, board.project)
    workspace._internal_name, workspace._internal_id = kept.get("name", ""), kept.get("workspace", "")
    report.id = kept.get("report", "")
    workspace.save()
    report.save()
    if board.kept is not None:
        ids = {"name": workspace._internal_name, "workspace": workspace._internal_id, "report": report.id}
        with contextlib.suppress(OSError):  # somebody else's run: the next dashboard of it is a new one
            write_atomically(Path(board.kept), json.dumps(ids).encode() + b"\n")
    return f"workspace  {workspace.url}\nreport     {report.url}"


def make_workspace(board: Board, entity: str) -> Any:
    """A workspace with a section of panels for each part of a run."""
    import wandb_workspaces.workspaces as ws

    sections = [ws.Section(name=name, panels=panels, is_open=True) for name, panels in _panels(board)]
    return ws.Workspace(
        entity=entity,
        project=board.project,
        name=board.title,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=max(10, len(board.runs))),
        runset_settings=ws.RunsetSettings(filters=_filters(board), pinned_columns=_columns(board)),
    )


def make_report(board: Board, entity: str, project: str) -> Any:
    """A report with the same panels under headings; a run set without entity and project is resolved by nobody."""
    import wandb_workspaces.reports.v2 as wr

    blocks: list[Any] = [wr.P(_about(board)), wr.TableOfContents()]
    for name, panels in _panels(board):
        runs = wr.Runset(entity=entity, project=project, name=board.title, filters=_filters(board))
        blocks += [wr.H2(name), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(project=board.project, entity=entity, title=board.title, blocks=blocks, width="fluid")


def _panels(board: Board) -> Iterator[tuple[str, list[Any]]]:
    """Each section with its panels, laid out in rows; new objects each time, since W&B gives each an id."""
    import wandb_workspaces.reports.v2 as wr

    if board.parameters:
        yield "Sweep", _laid_out(list(_sweep_panels(board)))
    for section in sections_of(board):
        panels: list[Any] = [_line_plot(chart) for chart in section.charts]
        panels += [wr.BarPlot(title=one.title, metrics=list(one.names)) for one in predictions_of(board, section)]
        yield section.title, _laid_out(panels)


def _line_plot(chart: Chart) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(title=chart.title, x=STEP, y=list(chart.names), log_y=chart.log or None)


def _sweep_panels(board: Board) -> Iterator[Any]:
    import wandb_workspaces.reports.v2 as wr

    goal = wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(board.metric), inverted=not board.greater or None)
    keys = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key)) for key in board.parameters]
    yield wr.ParallelCoordinatesPlot(title="Parameters and what came of them", columns=[*keys, goal])
    yield wr.ParameterImportancePlot(with_respect_to=board.metric)
    for key in board.parameters:
        yield wr.ScatterPlot(title=key, x=wr.Config(key), y=wr.SummaryMetric(board.metric))


def _laid_out(panels: list[Any]) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    for place, panel in enumerate(panels):
        row, column = divmod(place, COLUMNS)
        panel.layout = wr.Layout(x=column * WIDTH, y=row * HEIGHT, w=WIDTH, h=HEIGHT)
    return panels


def _filters(board: Board) -> Any:
    """The runs of a board in W&B's words; its ID is what the SDK calls a run's id."""
    from wandb_workspaces import expr

    if board.group is not None:
        return [expr.Metric("Group") == board.group]
    return [expr.Metric("ID").isin(board.runs)] if board.runs else []


def _columns(board: Board) -> list[str]:
    """Columns of the table of runs that are seen first."""
    parts = [key.partition(".") for key in board.parameters]
    keys = [f"config:{group}.value{dot}{rest}" for group, dot, rest in parts]
    return ["run:displayName", "summary:state", f"summary:{board.metric}", "summary:run/goodput", *keys]


def _about(board: Board) -> str:
    if board.group is not None:
        return f"Sweep {board.group} over {', '.join(board.parameters)}, judged by {board.metric}."
    return f"Runs: {', '.join(board.runs)}." if board.runs else f"All runs of {board.project}."


def _read(board: Board) -> dict[str, str]:
    """The names and ids under which the board was saved before."""
    try:
        content = json.loads(Path(board.kept or "").read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in content.items()} if isinstance(content, dict) else {}
