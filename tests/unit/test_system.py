"""What nodes measure: the kernel's counters, NVIDIA's library, and how nodes are put side by side."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from conf.files import read_objects
from train.metrics.lines import Lines
from train.system.compare import side_by_side
from train.system.counters import Counters
from train.system.gpus import GpuMeter, Reading, summarize
from train.system.sampler import Sampler

NVML = """
#include <string.h>
typedef struct { unsigned gpu, memory; } rates;
typedef struct { unsigned long long total, free, used; } memory;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu) { *gpu = (void *)(unsigned long)(index + 1); return 0; }
int nvmlDeviceGetUUID(void *gpu, char *uuid, unsigned length) {
    strcpy(uuid, "GPU-0"); uuid[4] += (unsigned long)gpu - 1; return 0; }
int nvmlDeviceGetUtilizationRates(void *gpu, rates *found) { found->gpu = 10 * (unsigned long)gpu; return 0; }
int nvmlDeviceGetMemoryInfo(void *gpu, memory *found) {
    found->total = 80ull << 30; found->used = (20ull << 30) * (unsigned long)gpu; return 0; }
int nvmlDeviceGetTemperature(void *gpu, int sensor, unsigned *found) { *found = 40 + (unsigned long)gpu; return 0; }
int nvmlDeviceGetPowerUsage(void *gpu, unsigned *found) { *found = 1500; return gpu == (void *)3 ? 3 : 0; }
"""
"""The functions that are asked, of a driver with three GPUs, of which the last does not know its power."""


def test_the_kernel_s_counters_are_rates_and_shares(tmp_path: Path) -> None:
    counters = Counters(tmp_path)
    busy_until = time.monotonic() + 0.3
    while time.monotonic() < busy_until:
        sum(range(1000))
    look = counters.look()
    assert 0 < look["cpu_percent"] <= 100
    assert 0 < look["memory_percent"] < 100
    assert look["memory_gib"] > 0
    assert 0 < look["scratch_percent"] <= 100
    rates = ("disk_read_mib_s", "disk_write_mib_s", "network_receive_mib_s", "network_send_mib_s")
    assert all(look[name] >= 0 for name in rates)


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(NVML)
    argv = [compiler, "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(folder / "nvml.c")]
    subprocess.run(argv, check=True)
    return str(folder / "libnvidia-ml.so.1")


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, (20.0, 60.0, 75.0, 43, 3.0)),
        ("1", (20.0, 40.0, 50.0, 42, 1.5)),
        ("0,GPU-1", (15.0, 40.0, 50.0, 42, 3.0)),
        ("MIG-slice", (20.0, 60.0, 75.0, 43, 3.0)),
    ],
    ids=["all", "index", "uuid", "slice"],
)
def test_the_visible_gpus_are_read_through_the_driver_s_library(
    nvml: str, visible: str | None, expected: tuple[float, ...]
) -> None:
    look = GpuMeter(visible, nvml).look()
    names = ("gpu_util_percent", "gpu_memory_gib", "gpu_memory_percent", "gpu_temperature_c", "gpu_power_w")
    assert look == dict(zip(names, expected, strict=True))


def test_a_machine_without_a_driver_has_no_gpus() -> None:
    assert GpuMeter(None, "libthere-is-none.so.1").look() == {}
    assert summarize([Reading(None, None, None, 40, None)]) == {"gpu_temperature_c": 40}


def test_nodes_side_by_side_name_the_worst() -> None:
    looks = {
        "a": {"cpu_percent": 10.0, "memory_percent": 50.0, "gpu_util_percent": 90.0},
        "b": {"cpu_percent": 30.0, "memory_percent": 70.0, "gpu_util_percent": 20.0},
        "c": {"cpu_percent": 20.0, "memory_percent": 60.0},
    }
    line = side_by_side(looks)
    assert line["worst"] == {"memory_percent": "b", "gpu_util_percent": "b"}
    cpu = [line[f"nodes/cpu_percent/{end}"] for end in ("min", "mean", "max")]
    assert cpu == [10, 20, 30]
    assert (line["nodes/gpu_util_percent/mean"], line["nodes/count"]) == (55, 3)
    assert side_by_side({"a": {"memory_percent": 1.0}})["worst"] == {}


def test_node_0_writes_what_all_saw_and_leaves_out_who_is_silent(tmp_path: Path) -> None:
    """Two agents over a real store; the second stops looking, and is gone from the lines after a while."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=20))
    client = TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False)
    file = tmp_path / "system.jsonl"
    with Sampler(0, ["a", "b"], 0.2, tmp_path, 3, Lines(file)) as first:
        with Sampler(1, ["a", "b"], 0.2, tmp_path, 3, Lines(tmp_path / "nobody")) as second:
            second.start(client)
            first.start(server)
            lines = wait_for_line(file, 2)
        assert lines[-1]["attempt"] == 3
        assert {"nodes/cpu_percent/max", "nodes/memory_gib/mean"} <= set(lines[-1])
        wait_for_line(file, 1, after=len(lines))
    assert not (tmp_path / "nobody").exists()


def wait_for_line(file: Path, count: int, after: int = 0) -> list[dict[str, object]]:
    deadline = time.monotonic() + 30
    while True:
        lines = read_objects(file)
        if any(line["nodes/count"] == count for line in lines[after:]):
            return lines
        assert time.monotonic() < deadline, json.dumps(lines)
        time.sleep(0.05)
