"""`choose(config, facts)`: the free keys of a configuration, chosen: the cheapest way that fits. Pure.

Between composing and checking, and nowhere else: what comes after sees plain keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from conf.choice import AUTO_KEYS, NODES, Alternative, Choice
from conf.record import Device
from conf.schema import Offload, RunConfig, TaskName
from launcher.check.batch import parallel_problems
from launcher.check.method import method_problems
from launcher.choice.search import Search
from launcher.choice.space import Candidate, Family, applied, free_keys, overrides_of
from launcher.facts.facts import Facts
from launcher.plan.content import content_of
from launcher.plan.resolve import resolved
from launcher.problems import Problem
from launcher.show import units

MOST_ALTERNATIVES = 16


@dataclass(frozen=True)
class Chosen:
    """A configuration without free keys, what was chosen for it, and why nothing could be."""

    config: RunConfig
    choice: Choice | None = None
    problems: tuple[Problem, ...] = ()


def choose(config: RunConfig, facts: Facts) -> Chosen:
    """The configuration with its free keys chosen; as it is where none is free."""
    free = free_keys(config)
    if not free:
        return Chosen(config)
    if config.task.name is TaskName.script or facts.model.error:
        return Chosen(_plain(config), None, tuple(_no_model(config)))
    before = _chosen_before(config, facts)
    if before is not None:
        if not free_keys(before):
            reason = "as it was chosen for this run before"
            return Chosen(before, Choice(_values(before, free), _given(config), 0, reason))
        config = before
    search = Search(config, facts)
    problems = tuple(_cannot_choose(search, facts))
    if problems or search.subject is None or search.cost is None:
        return Chosen(_plain(config), None, problems)
    search.allowed = set(_allowed(search, facts))
    candidates = search.candidates()
    if not candidates:
        return Chosen(_plain(config))  # what is given contradicts itself, as the checks will say
    found = search.first_that_fits(candidates)
    best = found if found is not None else search.least(candidates)
    choice = Choice(
        keys=overrides_of(best, free),
        given=_given(config),
        looked_at=len(candidates),
        reason=_reason(search, best, found is not None),
        alternatives=alternatives(search, candidates, best),
    )
    return Chosen(_with_given(config, best, free), choice)


def _plain(config: RunConfig) -> RunConfig:
    """The configuration with the defaults of what is free."""
    cluster = replace(config.cluster, nodes=config.cluster.nodes or 1)
    return replace(config, parallel=replace(config.parallel, auto=[]), cluster=cluster)


def _with_given(config: RunConfig, candidate: Candidate, free: set[str]) -> RunConfig:
    """The candidate's keys, as far as they are free; what is given is kept as it was written."""
    chosen, plain = applied(config, candidate), _plain(config)
    parallel, train, cluster = plain.parallel, plain.train, plain.cluster
    for key in free:
        group, _, name = key.partition(".")
        source: Any = getattr(chosen, group)
        if group == "parallel":
            parallel = replace(parallel, **{name: getattr(source, name)})
        elif group == "train":
            train = replace(train, **{name: getattr(source, name)})
        else:
            cluster = replace(cluster, **{name: getattr(source, name)})
    return replace(config, parallel=parallel, train=train, cluster=cluster)


def _given(config: RunConfig) -> list[str]:
    """Of the keys that `parallel=auto` could choose, those that were given."""
    if not config.parallel.auto:
        return []
    return [key for key in AUTO_KEYS if key not in config.parallel.auto]


def _no_model(config: RunConfig) -> list[Problem]:
    if config.task.name is not TaskName.script:
        return []
    key, value = (NODES, "auto") if config.cluster.nodes == 0 else ("parallel", "auto")
    return [Problem(key, value, "is for Muster's own training: what a program of yours needs is not known", "1")]


def _cannot_choose(search: Search, facts: Facts) -> list[Problem]:
    """What has to be known before anything can be chosen."""
    if search.subject is None:
        return []
    if search.cost is None:
        rule = "needs the number of the model's parameters, which neither config.json nor its weights tell"
        return [Problem("parallel", "auto", rule, "parallel=zero3")]
    need = search.verdict(next(iter(search.candidates()))).need
    if search.space.device is Device.gpu and need.capacity is None:
        rule = "needs to know how much memory a GPU has, which neither its name, cluster.gres nor the partition tells"
        return [Problem("cluster.gpu_memory_gib", "null", f"parallel=auto {rule}", "79")]
    free = search.config.train.per_device_train_batch_size is None or len(search.space.intervals()) > 1
    if search.space.device is Device.gpu and free and search.has_no_activations():
        kind = facts.model.config.get("model_type") or "this architecture"
        rule = f"cannot weigh micro batches and gradient checkpointing: what the layers of {kind} keep is not known"
        near = "train.per_device_train_batch_size=1 train.gradient_checkpointing=true parallel=zero3"
        return [Problem("parallel", "auto", rule, near)]
    return []


def _allowed(search: Search, facts: Facts) -> list[Family]:
    """The families with which the checks have nothing against."""
    known: dict[Family, bool] = {}
    for nodes in search.space.nodes():
        for family in search.space.families(nodes):
            if family in known:
                continue
            config = applied(search.config, Candidate(nodes, family, 0, 1))
            problems = [*method_problems(config, facts), *parallel_problems(config, facts)]
            known[family] = all(not problem.key.startswith("parallel.") for problem in problems)
    return [family for family, allowed in known.items() if allowed]


def _reason(search: Search, best: Candidate, fits: bool) -> str:
    kind = "GPU-hours" if search.space.device is Device.gpu else "node-hours"
    if not fits:
        return f"nothing fits; this comes nearest: {_short(search, best)}"
    surely = search.verdict(best).surely
    host = _if_host(search, best)
    host += " (cluster.mem is not given)" if host else ""
    said = f"fits{'' if surely else ', but perhaps not'}{host}, at the least {kind} of all that do"
    most, total = search.space.most_by_batch, search.config.train.global_batch_size
    if most is not None:
        said += f"; on more than {most} nodes some rank would have no document (train.global_batch_size={total})"
    return said


def _if_host(search: Search, candidate: Candidate) -> str:
    """Of states on the host: what has to be true where nobody knows how much memory a node has."""
    host = search.verdict(candidate).host
    if not candidate.family.optimizer_on_host or host.capacity is not None:
        return ""
    return f" if a node's host gives {units.size(host.peak.likely)}"


def _short(search: Search, candidate: Candidate) -> str:
    need = search.verdict(candidate).need
    missing = need.peak.likely - (need.capacity or 0)
    if missing > 0:
        return f"does not fit by {units.size(missing)} in {need.peak.name}"
    return f"may not fit: {units.size(need.high - (need.capacity or 0))} short at worst, in {need.peak.name}"


def alternatives(search: Search, candidates: list[Candidate], best: Candidate) -> list[Alternative]:
    """What else there is: of each sharding on the chosen nodes, of each other number of nodes, and with more or less
    computed again, the cheapest that fits, or what comes nearest to it."""
    groups: dict[tuple[Any, ...], list[Candidate]] = {}
    for one in candidates:
        if one.nodes == best.nodes:
            groups.setdefault(("family", one.family), []).append(one)
            if one.family == best.family:
                groups.setdefault(("interval", one.interval), []).append(one)
        else:
            groups.setdefault(("nodes", one.nodes), []).append(one)
    found: dict[Candidate, Alternative] = {}
    for group in groups.values():
        fitting = search.first_that_fits(group)
        one = fitting if fitting is not None else search.least(group)
        if one != best and one not in found:
            found[one] = _alternative(search, one, best, fitting is not None)
    listed = sorted(found.items(), key=lambda pair: (pair[1].fits is False, pair[1].cost, pair[0]))
    return [alternative for _, alternative in listed[:MOST_ALTERNATIVES]]


def _alternative(search: Search, candidate: Candidate, best: Candidate, fits: bool) -> Alternative:
    cost = search.price(candidate) / search.price(best)
    kind = "GPU-hours" if search.space.device is Device.gpu else "node-hours"
    verdict = search.verdict(candidate)
    need, host = verdict.need, _if_host(search, candidate)
    perhaps = "" if verdict.surely else ", but perhaps not"
    reason = f"fits{perhaps}{host}, {cost:.2f} times the {kind}" if fits else _short(search, candidate)
    keys = overrides_of(candidate, search.space.free)
    return Alternative(
        [f"{key}={_word(value)}" for key, value in keys.items()],
        fits,
        reason,
        need.peak.likely,
        need.peak.name,
        search.seconds(candidate),
        cost,
    )


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _chosen_before(config: RunConfig, facts: Facts) -> RunConfig | None:
    """The configuration with what was chosen for an earlier run of the same content, so that it goes on as it is."""
    free = set(config.parallel.auto)
    if not free:
        return None
    mine = _without(content_of(resolved(_plain(config), facts)), free)
    for run in facts.existing_runs:
        if run.chosen and _without(run.content, free) == mine:
            return _as_before(_plain(config), run.content, free, config.cluster.nodes)
    return None


def _without(content: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in keys}


def _as_before(config: RunConfig, content: Mapping[str, Any], free: set[str], nodes: int) -> RunConfig:
    parallel: dict[str, Any] = {}
    train: dict[str, Any] = {}
    for key in free:
        group, _, name = key.partition(".")
        value = content.get(key)
        if name.startswith("offload"):
            value = Offload(value)
        (parallel if group == "parallel" else train)[name] = value
    cluster = replace(config.cluster, nodes=nodes)
    return replace(
        config, parallel=replace(config.parallel, **parallel), train=replace(config.train, **train), cluster=cluster
    )


def _values(config: RunConfig, free: set[str]) -> dict[str, Any]:
    """The values that the free keys have now."""
    content = content_of(config)
    return {key: content[key] for key in AUTO_KEYS if key in free and content.get(key) is not None}
