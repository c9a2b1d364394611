"""How a choice of `parallel=auto` looks: what was chosen and why, then the alternatives with their reasons. Pure."""

from __future__ import annotations

from typing import Any

from conf.choice import Alternative, Choice
from launcher.show import time_page, units


def title(choice: Choice) -> str:
    """`Chosen: cluster.nodes=2, parallel.zero_stage=3, …`."""
    changed = [f"{key}={_word(value)}" for key, value in choice.keys.items() if not _is_off(key, value)]
    return f"Chosen: {' '.join(changed)}"


def lines(choice: Choice) -> list[str]:
    """Why, what was kept, and the table of alternatives."""
    among = f", of {choice.looked_at:,} ways" if choice.looked_at else ""
    found = [f"{choice.reason}{among}"]
    if choice.given:
        found.append(f"kept as given: {', '.join(choice.given)}")
    if choice.alternatives:
        rows = [("instead", "a step", "peak", ""), *map(row, choice.alternatives)]
        widths = [max(len(one[column]) for one in rows) for column in range(3)]
        found += ["", *("  ".join(_padded(one, widths)).rstrip() for one in rows)]
    return found


def row(alternative: Alternative) -> tuple[str, str, str, str]:
    """An alternative by its words, a step's time, a rank's peak, the reason."""
    step = time_page.seconds(alternative.step_s)
    return words(alternative), step, units.size(alternative.peak), alternative.reason


def words(alternative: Alternative) -> str:
    """The overrides as people say them: `2 nodes, zero3 + offload, micro 4, every 2nd layer again`."""
    keys = dict(override.split("=", 1) for override in alternative.overrides)
    said = []
    if nodes := keys.get("cluster.nodes"):
        said.append(f"{nodes} node{'' if nodes == '1' else 's'}")
    sharding = [f"zero{keys['parallel.zero_stage']}"] if "parallel.zero_stage" in keys else []
    sharding += ["optimizer offloaded"] if keys.get("parallel.offload_optimizer") == "cpu" else []
    sharding += ["weights offloaded"] if keys.get("parallel.offload_param") == "cpu" else []
    sharding += ["hpZ"] if keys.get("parallel.hpz_partition_size", "1") != "1" else []
    said += [" + ".join(sharding)] if sharding else []
    if micro := keys.get("train.per_device_train_batch_size"):
        said.append(f"micro {micro}")
    if keys.get("train.gradient_checkpointing") == "true":
        interval = keys.get("train.gradient_checkpointing_interval", "1")
        said.append("checkpointing" if interval == "1" else f"checkpointing 1 in {interval}")
    return ", ".join(said)


def _padded(cells: tuple[str, str, str, str], widths: list[int]) -> list[str]:
    first, step, peak, reason = cells
    return [f"{first:<{widths[0]}}", f"{step:>{widths[1]}}", f"{peak:>{widths[2]}}", reason]


def _is_off(key: str, value: Any) -> bool:
    """Whether a chosen value says only that something is not used."""
    return (key, value) in {
        ("parallel.offload_optimizer", "none"),
        ("parallel.offload_param", "none"),
        ("parallel.hpz_partition_size", 1),
        ("train.gradient_checkpointing", False),
        ("train.gradient_checkpointing_interval", 1),
    }


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
