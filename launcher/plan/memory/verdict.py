"""What an estimate means: warnings of a plan, and why a run is refused."""

from __future__ import annotations

from conf.estimate import Estimate, Need
from launcher.show.units import size


def memory_warnings(estimate: Estimate | None) -> list[str]:
    """What may not fit, and what does not."""
    if estimate is None:
        return []
    found = []
    device, host = estimate.device, estimate.host
    if device is not None and device.fits is False:
        found.append(f"does not fit: {shortage(device, 'a rank')}")
    elif device is not None and device.capacity is not None and device.without:
        found.append(f"may not fit: {device.without} are not known, and a rank needs {_of(device.low, device)} beside")
    elif device is not None and device.surely_fits is False:
        found.append(f"may not fit: {_at_most(device, 'a rank')}")
    if host is not None and host.fits is False:
        found.append(f"host memory is short: {shortage(host, 'a node')}")
    elif host is not None and host.surely_fits is False:
        found.append(f"host memory may be short: {_at_most(host, 'a node')}")
    return found


def disk_warnings(estimate: Estimate | None, free: int | None) -> list[str]:
    """Whether what the run writes may be more than is free now."""
    disk = estimate.disk if estimate is not None else None
    if disk is None or free is None or disk.high <= free:
        return []
    short = "is short" if disk.likely > free else "may be short"
    return [f"disk {short}: the run writes {size(disk.likely)}, at most {size(disk.high)}, and {size(free)} are free"]


def refusals(estimate: Estimate | None) -> list[str]:
    """Why a run cannot start. Of a rank's GPU what is expected counts; of a node's host, about
    which less is known, the low estimate."""
    found: list[str] = []
    if estimate is not None and estimate.bounded:
        return found
    if estimate is not None and estimate.device is not None and estimate.device.fits is False:
        found.append(shortage(estimate.device, "a rank"))
    host = estimate.host if estimate is not None else None
    if host is not None and host.capacity is not None and host.low > host.capacity:
        found.append(shortage(host, "a node"))
    return found


def shortage(need: Need, whose: str) -> str:
    """`a rank needs 97 GiB (93 to 104) in backward, of 79.1 GiB (H100, cluster.gres)`."""
    band = f"{size(need.low)} to {size(need.high)}"
    return f"{whose} needs {size(need.peak.likely)} ({band}) at its peak, {need.peak.name}, of {_capacity(need)}"


def _at_most(need: Need, whose: str) -> str:
    return f"{whose} needs about {size(need.peak.likely)}, at most {_of(need.high, need)}"


def _of(amount: float, need: Need) -> str:
    return f"{size(amount)} of {_capacity(need)}"


def _capacity(need: Need) -> str:
    return f"{size(need.capacity or 0)} ({need.capacity_from})"
