"""What NVIDIA's management library says of a node's GPUs. It opens no GPU for computing and belongs to the driver.

https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

GIB = 1 << 30
LIBRARY = "libnvidia-ml.so.1"
CORE_SENSOR = 0
UUID_LENGTH = 96


class _Rates(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@dataclass(frozen=True)
class Reading:
    """One GPU at one moment; None where the driver does not say."""

    util_percent: float | None
    memory_gib: float | None
    memory_percent: float | None
    temperature_c: float | None
    power_w: float | None


class GpuMeter:
    """Reads the GPUs that CUDA_VISIBLE_DEVICES names; none where there is no driver."""

    def __init__(self, visible: str | None, library: str = LIBRARY):
        try:
            self._nvml: Any = ctypes.CDLL(library)
            found = self._nvml.nvmlInit_v2() == 0
        except OSError:
            found = False
        self._gpus = _visible(self._all(), visible) if found else []

    def look(self) -> dict[str, float]:
        """Of all the node's GPUs: mean use, highest memory and temperature, power in all."""
        return summarize([self._read(gpu) for gpu in self._gpus])

    def _all(self) -> list[tuple[str, str, ctypes.c_void_p]]:
        """Index, UUID and handle of each."""
        count = ctypes.c_uint()
        if self._nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        gpus = []
        for index in range(count.value):
            gpu, uuid = ctypes.c_void_p(), ctypes.create_string_buffer(UUID_LENGTH)
            if self._nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(gpu)) == 0:
                self._nvml.nvmlDeviceGetUUID(gpu, uuid, UUID_LENGTH)
                gpus.append((str(index), uuid.value.decode(errors="replace"), gpu))
        return gpus

    def _read(self, gpu: ctypes.c_void_p) -> Reading:
        nvml, rates, memory = self._nvml, _Rates(), _Memory()
        temperature, milliwatts = ctypes.c_uint(), ctypes.c_uint()
        used = _asked(nvml.nvmlDeviceGetUtilizationRates, gpu, ctypes.byref(rates))
        held = _asked(nvml.nvmlDeviceGetMemoryInfo, gpu, ctypes.byref(memory))
        warm = _asked(nvml.nvmlDeviceGetTemperature, gpu, CORE_SENSOR, ctypes.byref(temperature))
        drawn = _asked(nvml.nvmlDeviceGetPowerUsage, gpu, ctypes.byref(milliwatts))
        return Reading(
            rates.gpu if used else None,
            memory.used / GIB if held else None,
            100 * memory.used / memory.total if held and memory.total else None,
            temperature.value if warm else None,
            milliwatts.value / 1000 if drawn else None,
        )


def summarize(readings: Sequence[Reading]) -> dict[str, float]:
    """A node's GPUs as one; a figure that no GPU gives is left out."""
    values: dict[str, float] = {}
    ways: dict[str, Callable[[list[float]], float]] = {
        "util_percent": lambda found: sum(found) / len(found),
        "memory_gib": max,
        "memory_percent": max,
        "temperature_c": max,
        "power_w": sum,
    }
    for name, way in ways.items():
        found = [value for reading in readings if (value := getattr(reading, name)) is not None]
        if found:
            values[f"gpu_{name}"] = way(found)
    return values


def _asked(function: Any, *arguments: Any) -> bool:
    return bool(function(*arguments) == 0)


def _visible(gpus: list[tuple[str, str, ctypes.c_void_p]], visible: str | None) -> list[ctypes.c_void_p]:
    """The handles of those that are named, by index or UUID; of all where something else is, such as a slice."""
    names = [name.strip() for name in (visible or "").split(",") if name.strip()]
    known = {name: gpu for index, uuid, gpu in gpus for name in (index, uuid)}
    if not names or not all(name in known for name in names):
        return [gpu for _, _, gpu in gpus]
    return [known[name] for name in names]
