"""The static script that runs a job, as it ships: one file, made of two."""

from __future__ import annotations

from importlib import resources

SOURCE = b'source "${BASH_SOURCE[0]%/*}/follow.sh"\n'
"""The line of `body.sh` in whose place the functions of `follow.sh` are put."""


def read_body() -> bytes:
    """The bytes of `body.sh` with `follow.sh` in it."""
    body, follow = (resources.files("slurm").joinpath(name).read_bytes() for name in ("body.sh", "follow.sh"))
    assert body.count(SOURCE) == 1
    return body.replace(SOURCE, follow.partition(b"\n")[2])
