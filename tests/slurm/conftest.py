"""A real Slurm for the tests of this folder: one that is up is used, else one is brought up and taken down again."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm import devcluster as cluster
from slurm.devcluster import Profile, Record
from slurm.devcluster.accounting import join
from slurm.devcluster.cluster import PACKAGES, PACKAGES_OF_STRICT
from slurm.devcluster.profiles import PLAIN, STRICT
from slurm.devcluster.record import read_record
from tests.slurm.person import Person, make_person

NODES = 4


@pytest.fixture(scope="session")
def devcluster() -> Iterator[Record]:
    """A devcluster of four nodes."""
    conf = cluster.find()
    current = read_record(Path(conf).parent) if conf else None
    if current is not None and current.nodes >= NODES:
        yield current
        return
    with brought_up() as record:
        yield record


@pytest.fixture(scope="session")
def person(devcluster: Record) -> Iterator[Person]:
    """The unprivileged user who submits, with a folder under /tmp that goes with the session."""
    with somebody(devcluster) as one:
        yield one


@pytest.fixture(scope="session")
def strict() -> Iterator[Record]:
    """A devcluster of the strict profile, this session's own; a skip where its packages are missing."""
    with brought_up(Path(f"/tmp/muster-devcluster-strict-{os.getpid()}"), STRICT) as record:
        yield record


@pytest.fixture(scope="session")
def member(strict: Record) -> Iterator[Person]:
    """The unprivileged user on the strict devcluster, with its accounts."""
    with somebody(strict) as one:
        join(strict, STRICT, one.name)
        yield one


@contextlib.contextmanager
def brought_up(folder: Path | None = None, profile: Profile = PLAIN) -> Iterator[Record]:
    """A devcluster of four nodes that is taken down again; a skip with the reason where there can be none."""
    needed = ["slurmctld", "slurmd", "munged"]
    if profile is STRICT:
        needed += ["mariadbd", "slurmdbd", "bindfs"]
    missing = [name for name in needed if not _installed(name)]
    if missing:
        packages = PACKAGES_OF_STRICT if profile is STRICT else PACKAGES
        pytest.skip(f"Slurm is not installed ({', '.join(missing)} missing): {packages}")
    if profile is STRICT and os.geteuid() != 0:
        pytest.skip("nodes with a view of their own of the files need root")
    record = cluster.up(NODES, folder=folder, profile=profile)
    try:
        yield record
    finally:
        cluster.down(Path(record.folder))


@contextlib.contextmanager
def somebody(devcluster: Record) -> Iterator[Person]:
    """An unprivileged user of a devcluster, with a folder under /tmp that goes afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="muster-test-", dir="/tmp"))
    try:
        yield make_person(folder, devcluster.slurm_conf)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a job that ends takes files away meanwhile


def _installed(name: str) -> bool:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None
