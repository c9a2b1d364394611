"""How much memory can be taken, within control groups of either version."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.host_memory import free_host_bytes, host_bytes

MIB = 1 << 20
UNLIMITED = {"1": "9223372036854771712", "2": "max"}
FILES = {
    "1": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    "2": ("memory.max", "memory.current", "inactive_file"),
}
CGROUP = {
    "1": "11:cpu,cpuacct:/slurm/job_7\n4:hugetlb,memory:/slurm/job_7/step_0\n0::/\n",
    "2": "0::/slurm/job_7/step_0\n",
}


class Site:
    """Control groups of a Slurm job in a folder."""

    def __init__(self, folder: Path, version: str):
        self.cgroup, self.root = folder / "cgroup", folder / "fs"
        self._base = self.root / "memory" if version == "1" else self.root
        self._version = version
        self.cgroup.write_text(CGROUP[version])
        for name in ("", "slurm", "slurm/job_7", "slurm/job_7/step_0"):
            self.write(name, UNLIMITED[version], 0, 0)

    def write(self, group: str, limit: str, taken: int, cached: int) -> None:
        limits, takes, caches = FILES[self._version]
        folder = self._base / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / limits).write_text(f"{limit}\n")
        (folder / takes).write_text(f"{taken}\n")
        (folder / "memory.stat").write_text(f"cache {cached + 5}\n{caches} {cached}\nactive_file 3\n")


@pytest.fixture(params=["1", "2"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    return Site(tmp_path, request.param)


def test_without_a_limit_the_host_s_memory_counts(site: Site, tmp_path: Path) -> None:
    assert host_bytes(site.cgroup, site.root) == host_bytes(tmp_path / "none", tmp_path / "none")
    assert 0 < free_host_bytes(site.cgroup, site.root) <= host_bytes(site.cgroup, site.root)


@pytest.mark.parametrize("group", ["slurm/job_7", "slurm/job_7/step_0"])
def test_a_group_s_limit_holds_and_its_cached_pages_go(site: Site, group: str) -> None:
    site.write(group, str(30 * MIB), 25 * MIB, 4 * MIB)
    assert host_bytes(site.cgroup, site.root) == 30 * MIB
    assert free_host_bytes(site.cgroup, site.root) == 9 * MIB


def test_the_narrowest_group_decides(site: Site) -> None:
    site.write("slurm/job_7", str(30 * MIB), 25 * MIB, 0)
    site.write("slurm/job_7/step_0", str(20 * MIB), 2 * MIB, 0)
    assert host_bytes(site.cgroup, site.root) == 20 * MIB
    assert free_host_bytes(site.cgroup, site.root) == 5 * MIB


def test_a_group_that_is_not_mounted_here_is_passed_by(site: Site) -> None:
    """In a container the name is the host's, and its root is the container's own group."""
    site.write("", str(30 * MIB), 20 * MIB, 0)
    site.cgroup.write_text(site.cgroup.read_text().replace("/slurm/job_7/step_0", "/elsewhere/pod"))
    assert free_host_bytes(site.cgroup, site.root) == 10 * MIB
