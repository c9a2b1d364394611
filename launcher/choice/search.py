"""The cheapest candidate of a space that fits: candidates by price, memory only of those that come first. Pure.

Memory grows with the micro batch and with every layer that is not computed again, so a candidate that does not fit
rules out others of its family; `tests/unit/test_choice.py` compares with looking at every one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from conf.estimate import Need
from conf.record import Device
from conf.schema import RunConfig
from launcher.choice.space import Candidate, Family, Space, applied
from launcher.facts.facts import Facts
from launcher.plan.measured import time_correction
from launcher.plan.memory.activations import Activations
from launcher.plan.memory.estimate import Subject, activations_by, device_need_of, held_by, host_need_of
from launcher.plan.memory.states import Part, parts_of
from launcher.plan.plan import resolve_packing, subject_of
from launcher.plan.time.cost import cost_of
from launcher.plan.time.documents import Documents, Step
from launcher.plan.time.forecast import way_of
from launcher.plan.time.machine import machine_of
from launcher.plan.time.step import GRADES, Way, seconds_of
from launcher.plan.topology import make_topology


@dataclass(frozen=True)
class Verdict:
    """Memory of a candidate: what decides, what a node's `host` holds, and whether even the high estimate, or at least
    the likely one, is there."""

    need: Need
    host: Need
    surely: bool
    likely: bool


class Search:
    """Prices and memory of the candidates of one configuration."""

    def __init__(self, config: RunConfig, facts: Facts):
        """`config` has free keys (`space.free_keys`); `subject` is any of its candidates."""
        self.config, self.facts = config, facts
        packing, _ = resolve_packing(config, str(facts.model.config.get("model_type", "")))
        self.space = Space(config, facts, packing)
        self._packing = packing
        self._parts: dict[tuple[int, Family], tuple[list[Part], Subject]] = {}
        self._work: dict[tuple[int, int], Activations | None] = {}
        self._verdicts: dict[Candidate, Verdict] = {}
        self._steps: dict[tuple[int, int], Step] = {}
        self._ways: dict[tuple[int, Family, int], tuple[Way, float]] = {}
        first = next(self._everything(), None)
        self.subject = None if first is None else self._first_subject(first)
        self.cost = cost_of(self.subject) if self.subject else None
        self._held = held_by(self.subject) if self.subject else None
        topology, _ = make_topology(replace(config.cluster, nodes=1), facts)
        self._machine = machine_of(config, facts, topology)
        self._documents = Documents(config, facts)
        self.allowed: set[Family] | None = None

    def _first_subject(self, candidate: Candidate) -> Subject:
        config = applied(self.config, candidate)
        topology, _ = make_topology(config.cluster, self.facts)
        return subject_of(config, self.facts, topology, self._packing)

    def _everything(self) -> Iterator[Candidate]:
        for nodes in self.space.nodes():
            for family in self.space.families(nodes):
                yield from self.space.candidates(nodes, family)

    def candidates(self) -> list[Candidate]:
        """Every candidate whose family the checks allow, the cheapest first."""
        found = [one for one in self._everything() if self.allowed is None or one.family in self.allowed]
        return sorted(found, key=lambda one: (self.price(one), one))

    def seconds(self, candidate: Candidate) -> float:
        """Likely seconds of a step."""
        assert self.cost is not None
        way, factor = self._way(candidate)
        grade = GRADES[self._machine.device][1]
        return seconds_of(self.cost, self._machine, way, self._step(candidate), grade).total * factor

    def tokens(self, candidate: Candidate) -> float:
        """Useful tokens of a step, all ranks together."""
        return self._step(candidate).useful

    def _step(self, candidate: Candidate) -> Step:
        ranks = candidate.nodes * self.space.per_node
        key = (ranks, candidate.micro)
        if key not in self._steps:
            batch = self.space.batch(ranks, candidate.micro)
            assert batch is not None
            self._steps[key] = self._documents.step(batch, self.space.packed)
        return self._steps[key]

    def price(self, candidate: Candidate) -> float:
        """Device-seconds of a step: what a run costs, since its steps are the same whatever the way."""
        devices = candidate.nodes * (self.space.per_node if self.space.device is Device.gpu else 1)
        return devices * self.seconds(candidate)

    def _way(self, candidate: Candidate) -> tuple[Way, float]:
        """The way of a candidate, which all micro batches share, and by what measured runs correct its time."""
        key = (candidate.nodes, candidate.family, candidate.interval)
        if key not in self._ways:
            _, subject = self._family(candidate)
            correction = time_correction(self.subject_of(candidate), self.facts) if self.facts.measured else None
            way = replace(way_of(subject), interval=candidate.interval)
            self._ways[key] = way, correction.factor if correction else 1.0
        return self._ways[key]

    def _family(self, candidate: Candidate) -> tuple[list[Part], Subject]:
        """Parts of the model states, and a subject, of the candidate's family on its nodes."""
        key = (candidate.nodes, candidate.family)
        if key not in self._parts:
            assert self.subject is not None
            assert self._held is not None
            config = applied(self.config, candidate)
            topology, _ = make_topology(config.cluster, self.facts)
            subject = subject_of(config, self.facts, topology, self._packing, self.subject)
            self._parts[key] = parts_of(self._held, subject.zero, topology.world_size), subject
        return self._parts[key]

    def subject_of(self, candidate: Candidate) -> Subject:
        """The candidate as the estimates take it."""
        _, family = self._family(candidate)
        batch = self.space.batch(candidate.nodes * self.space.per_node, candidate.micro)
        assert batch is not None
        return replace(family, config=applied(self.config, candidate), batch=batch)

    def verdict(self, candidate: Candidate) -> Verdict:
        """Memory of a candidate."""
        if candidate not in self._verdicts:
            self._verdicts[candidate] = self._judged(candidate)
        return self._verdicts[candidate]

    def _judged(self, candidate: Candidate) -> Verdict:
        assert self._held is not None
        parts, _ = self._family(candidate)
        subject = self.subject_of(candidate)
        key = (candidate.micro, candidate.interval)
        if key not in self._work:
            self._work[key] = activations_by(subject)
        work = self._work[key]
        device = device_need_of(subject, self.facts, self._held, parts, work)
        host = host_need_of(subject, self.facts, self._held, parts, work)
        if device is None:
            return Verdict(host, host, host.fits is not False, host.fits is not False)
        if host.fits is False:
            return Verdict(host, host, False, False)
        return Verdict(device, host, device.surely_fits is not False, device.fits is not False)

    def has_no_activations(self) -> bool:
        """Whether nobody knows what the architecture's layers keep."""
        return self.subject is not None and activations_by(self.subject) is None

    def first_that_fits(self, candidates: list[Candidate]) -> Candidate | None:
        """The first of candidates (by price) of which even the high estimate fits, else the likely one."""
        found = self._first(candidates, surely=True)
        return found if found is not None else self._first(candidates, surely=False)

    def _first(self, candidates: list[Candidate], surely: bool) -> Candidate | None:
        smallest = _smallest(candidates)
        too_large: dict[tuple[int, Family, int], int] = {}
        ruled_out: set[tuple[int, Family]] = set()
        for candidate in candidates:
            family = (candidate.nodes, candidate.family)
            limit = too_large.get((*family, candidate.interval))
            if family in ruled_out or (limit is not None and candidate.micro >= limit):
                continue
            if self._fits(candidate, surely):
                return candidate
            too_large[(*family, candidate.interval)] = candidate.micro
            if not self._fits(smallest[family], surely):
                ruled_out.add(family)
        return None

    def _fits(self, candidate: Candidate, surely: bool) -> bool:
        verdict = self.verdict(candidate)
        return verdict.surely if surely else verdict.likely

    def least(self, candidates: list[Candidate]) -> Candidate:
        """The candidate that comes nearest to fitting, of those that need least in their family."""
        return min(_smallest(candidates).values(), key=lambda one: (self.short_by(one), one))

    def short_by(self, candidate: Candidate) -> int:
        """Bytes of the likely peak beyond what there is."""
        need = self.verdict(candidate).need
        return need.peak.likely - (need.capacity or 0)


def _smallest(candidates: list[Candidate]) -> dict[tuple[int, Family], Candidate]:
    """Of each family on each number of nodes the candidate that needs least memory."""
    found: dict[tuple[int, Family], Candidate] = {}
    for one in candidates:
        key = (one.nodes, one.family)
        if key not in found or _hunger(one) < _hunger(found[key]):
            found[key] = one
    return found


def _hunger(candidate: Candidate) -> tuple[int, float]:
    """Orders the candidates of a family by memory, at least at its lower end."""
    return candidate.micro, candidate.interval or float("inf")
