"""From overrides to what would be sent: compose → gather → choose → check → plan → render. Writes nothing.

`plan` prints a proposal, `run` and `submit` write the same bytes, so what is shown is what is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from conf.choice import Choice
from conf.record import Plan
from conf.schema import ClusterKind, RunConfig
from launcher.facts.facts import Facts
from launcher.problems import ConfigurationError, Problem


@dataclass(frozen=True)
class Proposal:
    """A plan, the facts it rests on, and every file of its run folder."""

    plan: Plan
    facts: Facts
    artifacts: Mapping[str, bytes]


def propose_config(
    config: RunConfig, *, fetch: bool = True, look: Callable[[RunConfig], Facts] | None = None
) -> Proposal:
    """The proposal of a composed configuration; without `fetch` no weights and no data of a hub are fetched.

    `look` gathers the facts: a `Gatherer` for the points of a sweep.

    Raises:
        ConfigurationError: with all problems.
    """
    from launcher.check.check import check
    from launcher.facts.gather import gather
    from launcher.plan.plan import make_plan
    from launcher.render.artifacts import render

    facts = look(config) if look else gather(config, fetch=fetch)
    config, choice, unchosen = without_free_keys(config, facts)
    problems = [*unchosen, *check(config, facts)]
    if problems:
        raise ConfigurationError(problems)
    plan = make_plan(config, facts, choice)
    return Proposal(plan, facts, render(plan, facts))


def without_free_keys(config: RunConfig, facts: Facts) -> tuple[RunConfig, Choice | None, tuple[Problem, ...]]:
    """The configuration with what `parallel=auto` and `cluster.nodes=auto` choose, and why where they cannot."""
    if not config.parallel.auto and config.cluster.nodes != 0:
        return config, None, ()
    from launcher.choice.choose import choose  # most plans have nothing to choose

    chosen = choose(config, facts)
    return chosen.config, chosen.choice, chosen.problems


def require_fit(proposal: Proposal) -> None:
    """Refuse what is expected to need more memory than there is, unless `cluster.memory_check` is off.

    Raises:
        ConfigurationError: with the nearest changes that fit.
    """
    from launcher.plan.memory.changes import changes_that_fit
    from launcher.plan.memory.verdict import refusals
    from launcher.show.units import size

    config = proposal.plan.config
    found = refusals(proposal.plan.memory)
    if not found or not config.cluster.memory_check:
        return
    fitting = changes_that_fit(config, proposal.facts)
    nearest = "; ".join(f"{' '.join(change.overrides)} ({size(change.likely)} a rank)" for change in fitting)
    rule = "refuses what does not fit (`cluster.memory_check=false` starts it all the same): "
    raise ConfigurationError(Problem("cluster.memory_check", "true", rule + text, nearest) for text in found)


def require_kind(plan: Plan, kind: ClusterKind, instead: str) -> None:
    """Refuse a plan for the other kind of cluster.

    Raises:
        ConfigurationError: naming the verb to use instead.
    """
    given = plan.config.cluster.kind
    if given is not kind:
        site = " or name a cluster: cluster=devcluster, cluster=<your site>" if kind is ClusterKind.slurm else ""
        rule = f"does not go with this verb, which needs {kind.value}; use `muster {instead}`{site}"
        raise ConfigurationError([Problem("cluster.kind", given.value, rule)])
