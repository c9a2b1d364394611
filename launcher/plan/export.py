"""Who writes the Hugging Face model: the run at its end, or a job after it. Pure."""

from __future__ import annotations

from conf.schema import ExportWhen, RunConfig
from launcher.show.units import count

LARGEST_EXPORT_AT_END = 4 * 10**9
"""Parameters up to which `checkpoint.export=auto` writes the model at the end of the run."""


def export_at_end(config: RunConfig, parameters: int | None) -> tuple[bool, str]:
    """Whether the run itself writes the Hugging Face model, and why."""
    when = config.checkpoint.export
    if config.train.max_steps == 0:
        return False, "no export: train.max_steps=0 evaluates alone"
    if when is ExportWhen.auto:
        small = parameters is None or parameters <= LARGEST_EXPORT_AT_END
        size = "of unknown size" if parameters is None else f"of {count(parameters)} parameters"
        return small, f"export {'at the end of the run' if small else 'as a job after the run'}: a model {size}"
    words = {
        ExportWhen.end: "at the end of the run",
        ExportWhen.job: "as a job after the run",
        ExportWhen.never: "never",
    }
    return when is ExportWhen.end, f"export {words[when]}: checkpoint.export={when.value}"
