"""Which curves of a run a report shows, and what they are shown against: another run, what was planned. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from conf.evaluation import HEADLINES
from launcher.figures.plot import Band, Curve, Plot, Points, plot_picture
from launcher.report.story import Story
from launcher.runs.reading import EVAL_LOSS, LOSS, NORM, RATE, SPEED

GIB = 1 << 30
MOMENTS = 12
OTHER_PLOTS = (
    (RATE, "learning rate", ".3g"),
    (NORM, "gradient norm", ".4g"),
    (SPEED, "tokens a second", ",.0f"),
    ("perf/step_time_s", "seconds a step", ".3g"),
    ("perf/mfu", "model FLOPs utilisation", ".1%"),
    ("health/straggler_factor", "slowest rank against the median", ".3g"),
)


def curve_pictures(story: Story, against: Story | None) -> list[str]:
    """The pictures, the loss first."""
    return [plot_picture(plot) for plot in plots(story, against)]


def plots(story: Story, against: Story | None) -> Iterator[Plot]:
    """What is shown: loss, each headline of the evaluations, the rest of the training, memory."""
    end = float(story.standing.total_steps) if story.standing.live and story.standing.total_steps else None
    moments = _moments(story)
    if _points(story, LOSS) or _points(story, EVAL_LOSS):
        yield Plot("loss", _loss_curves(story, against), moments=moments, x_end=end)
    for name in HEADLINES[1:]:
        key = f"eval/{name}"
        if _points(story, key):
            yield Plot(f"evaluation: {name}", _curves(story, against, key, marks=True), x_end=end)
    for key, title, form in OTHER_PLOTS:
        if len(_points(story, key)) > 1:
            yield Plot(title, _curves(story, against, key), moments=moments, x_end=end, form=form)
    yield from _memory(story, end)


def _loss_curves(story: Story, against: Story | None) -> list[Curve]:
    curves = []
    if against is not None:
        curves += [Curve("other", _points(against, LOSS), "other")]
    curves.append(Curve("training", _points(story, LOSS), "c0"))
    curves.append(Curve("evaluation", _points(story, EVAL_LOSS), "c1", marks=True))
    if against is not None and _points(against, EVAL_LOSS):
        curves.append(Curve("its evaluation", _points(against, EVAL_LOSS), "c3", marks=True))
    return curves


def _curves(story: Story, against: Story | None, key: str, marks: bool = False) -> list[Curve]:
    own = Curve("this run" if against else key.rpartition("/")[2], _points(story, key), "c0", marks=marks)
    return [Curve("other", _points(against, key), "other", marks=marks), own] if against is not None else [own]


def _memory(story: Story, end: float | None) -> Iterator[Plot]:
    """Measured against what was planned: of a GPU in one picture, of the host in another."""
    planned = story.standing.plan.memory
    gpu = [
        Curve("allocated", _points(story, "mem/gpu_peak_gib"), "c0"),
        Curve("reserved", _points(story, "mem/gpu_reserved_gib"), "c1", dashed=True),
    ]
    if any(each.points for each in gpu):
        need = planned.device if planned else None
        band = Band("planned", need.low / GIB, need.high / GIB) if need else None
        levels = [(f"there is {need.capacity / GIB:.4g}", need.capacity / GIB)] if need and need.capacity else []
        yield Plot("GPU memory of rank 0, GiB", gpu, levels=levels, band=band, from_zero=True, x_end=end)
    host = _points(story, "mem/host_peak_gib")
    if len(host) > 1:
        curve = [Curve("highest", host, "c0")]
        yield Plot("host memory of rank 0, GiB", curve, from_zero=True, x_end=end)


def _moments(story: Story) -> list[tuple[float, str]]:
    """Steps at which an attempt took over, or numbers went wrong; few enough to be seen."""
    found = [
        (float(each.first_step), f"attempt {each.number} begins")
        for each in story.diagnosis.stories
        if each.number and each.first_step is not None
    ]
    found += [(float(each.step), each.words) for each in story.events if each.kind == "warning" and each.step]
    return found[-MOMENTS:]


def _points(story: Story, key: str) -> Points:
    return [(float(step), value) for step, value in story.series.points.get(key, [])]
