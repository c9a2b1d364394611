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
from slurm.devcluster import Record
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


@contextlib.contextmanager
def brought_up(folder: Path | None = None) -> Iterator[Record]:
    """A devcluster of four nodes that is taken down again; a skip with the reason where there can be none."""
    missing = [name for name in ("slurmctld", "slurmd", "munged") if not _installed(name)]
    if missing:
        pytest.skip(f"Slurm is not installed ({', '.join(missing)} missing): apt-get install slurm-wlm munge iproute2")
    record = cluster.up(NODES, folder=folder)
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
        shutil.rmtree(folder)


def _installed(name: str) -> bool:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None
