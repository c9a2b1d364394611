"""A run again, from the start and beside the first: the same configuration, seed, code and data, under a free name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from conf.layout import RunFolder
from conf.record import Plan
from launcher.compare.difference import difference
from launcher.compare.facets import CODE, PLAN, VERSIONS, Facets, facets_of, plan_facts
from launcher.problems import ConfigurationError, Problem
from launcher.runs.read import Line, parse_line
from launcher.send.proposal import Proposal, propose_config

SNAPSHOTS = ("code/muster.zip", "code/project.zip", "job/body.sh")
MINE = frozenset({"host", "user", "expected memory in bytes"})
"""What may differ without a word."""


def propose_again(
    folder: RunFolder, plan: Plan, name: str | None, changed_data_too: bool = False
) -> tuple[Proposal, list[str]]:
    """The proposal of the run once more, and what will not be as it was, in words.

    The code is the first run's snapshot; where that was another version of Muster, it is this one's, and said so.

    Raises:
        ConfigurationError: data that is gone or changed, or what the checks find.
    """
    changed = changed_data(folder)
    if changed and not changed_data_too:
        raise ConfigurationError(changed)
    config = dataclasses.replace(plan.config, name=name or free_name(plan))
    proposal = propose_config(config)
    before = facets_of(folder)
    artifacts = dict(proposal.artifacts)
    now = _record(artifacts["env.json"])
    same_version = before[VERSIONS].get("muster") == (now.get("versions") or {}).get("muster")
    if same_version:
        artifacts |= _snapshots(folder)
        record = now | {"code": _digests(artifacts), **_project(folder)}
        artifacts["env.json"] = json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n"
    lines = [f"data: {problem.key} {problem.rule}" for problem in changed]
    lines += remarks(before, proposal.plan, now, same_version)
    return dataclasses.replace(proposal, artifacts=artifacts), lines


def changed_data(folder: RunFolder) -> list[Problem]:
    """Files of data that are not what the run was trained on, by the hashes that its data step wrote down."""
    problems = []
    for source, digest in _sources(_object(folder.data_json)):
        path = Path(source)
        if not path.is_absolute() or not digest:
            continue
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            problems.append(Problem(source, "", f"cannot be read ({error.strerror}); the run was trained on it"))
            continue
        if found != digest:
            rule = f"has changed since: its SHA-256 was {digest[:16]}… and is {found[:16]}…"
            problems.append(Problem(source, "", rule, "--changed-data goes on all the same"))
    return problems


def remarks(before: Facets, plan: Plan, record: Mapping[str, Any], same_version: bool) -> list[str]:
    """What is not as it was: versions of libraries, the plan, data that nobody can compare."""
    versions = {**(record.get("versions") or {}), "python": record.get("python"), "slurm": record.get("slurm")}
    after = {VERSIONS: versions, PLAN: plan_facts(plan)}
    found = difference({part: before[part] for part in after}, after)
    lines = [
        f"{part}: {each.key} was {each.one}, is {each.other}"
        for part, rows in found.parts.items()
        for each in rows
        if each.key not in MINE
    ]
    if not same_version:
        lines.append("code: another version of Muster wrote the run; this one's code is used")
    elif before[CODE].get("changed since the commit"):
        lines.append("code: the project had changes that are in no commit; its snapshot is used")
    if not any(key.endswith(".sha256") and value for key, value in before["data"].items()):
        lines.append("data: the run has no hashes of its files, so nobody knows whether they are the same")
    return lines


def free_name(plan: Plan) -> str:
    """A name that no run has yet: NAME-again, NAME-again-2, …"""
    root, stem = Path(plan.run_dir).parent, f"{plan.config.name}-again"
    names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
    return next(name for name in names if not any(root.glob(f"{name}-????????")))


def _snapshots(folder: RunFolder) -> dict[str, bytes]:
    paths = {name: folder.path / name for name in SNAPSHOTS}
    return {name: path.read_bytes() for name, path in paths.items() if path.is_file()}


def _digests(artifacts: Mapping[str, bytes]) -> dict[str, str]:
    archives = [name for name in artifacts if name.startswith("code/")]
    return {name.removeprefix("code/"): hashlib.sha256(artifacts[name]).hexdigest() for name in archives}


def _project(folder: RunFolder) -> dict[str, Any]:
    """Which commit the snapshot is of."""
    record = _object(folder.env_json)
    return {key: record[key] for key in ("commit", "dirty") if key in record}


def _sources(prepared: Line) -> set[tuple[str, str]]:
    splits = (prepared.get("splits") or {}).values()
    return {(part.get("source", ""), part.get("digest") or "") for split in splits for part in split.get("parts") or []}


def _record(content: bytes) -> Line:
    return parse_line(content) or {}


def _object(path: Path) -> Line:
    try:
        return parse_line(path.read_bytes()) or {}
    except OSError:
        return {}
