"""Limits and roll backs that cannot be: what the keys of `health` need of each other and of checkpoints."""

from __future__ import annotations

from collections.abc import Iterator

from conf.schema import NonFinite, OnSpike, RunConfig
from launcher.problems import Problem


def health_problems(config: RunConfig) -> Iterator[Problem]:
    """What is wrong with the keys of `health` together."""
    yield from _timeout_problems(config)
    yield from _roll_back_problems(config)


def _timeout_problems(config: RunConfig) -> Iterator[Problem]:
    """Ranks that would give up on a collective before the watchdog has looked who is at fault."""
    limits = {name: value for name, value in vars(config.health.limits_s).items() if name != "prepare"}
    name, largest = max(limits.items(), key=lambda item: item[1])
    timeout_s = config.health.collective_timeout_s
    if timeout_s is not None and config.health.watchdog and timeout_s < largest:
        rule = f"is less than health.limits_s.{name}={largest:g}, for which a rank may wait"
        yield Problem("health.collective_timeout_s", f"{timeout_s:g}", rule, f"{largest:g}")


def _roll_back_problems(config: RunConfig) -> Iterator[Problem]:
    """Going back without a checkpoint to go back to, or never."""
    health, every = config.health, config.checkpoint.save_steps
    asking = {"non_finite": health.non_finite is NonFinite.roll_back, "spike": health.spike is OnSpike.roll_back}
    for name in (name for name, asks in asking.items() if asks):
        if every == 0:
            rule = "goes back to a checkpoint, and checkpoint.save_steps=0 has none before the end"
            yield Problem(f"health.{name}", "roll_back", rule, "checkpoint.save_steps=500")
        elif health.max_roll_backs == 0:
            rule = "never goes back with health.max_roll_backs=0"
            yield Problem(f"health.{name}", "roll_back", rule, "health.max_roll_backs=2")
