"""This machine: cores, memory, GPUs, what lies between them, its networks."""

from __future__ import annotations

import shutil

from launcher.doctor import links
from launcher.doctor.finding import Finding, output_of
from launcher.facts.machine import cpu_count, memory_gib


def examine_machine() -> Finding:
    """Cores and host memory."""
    return Finding("machine", True, f"{cpu_count()} cores, {memory_gib():.1f} GiB memory")


def examine_gpus() -> list[Finding]:
    """The GPUs, their driver and the links between them."""
    if shutil.which("nvidia-smi"):
        return _nvidia()
    if shutil.which("rocm-smi"):
        listed = output_of(["rocm-smi", "--showproductname"])
        names = [line for line in (listed or "").splitlines() if "Card" in line]
        return [
            Finding("GPUs", bool(names), f"{len(names)} lines of rocm-smi", "AMD GPUs were never tried with Muster")
        ]
    return [Finding("GPUs", False, "none seen", "ranks here compute on the CPU: fine for the demo and small models")]


def _nvidia() -> list[Finding]:
    fields = "name,memory.total,driver_version,ecc.errors.uncorrected.volatile.total"
    listed = output_of(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"])
    if listed is None:
        return [Finding("GPUs", False, "nvidia-smi failed", "ask nvidia-smi itself; a driver may be missing")]
    rows = [[word.strip() for word in line.split(",")] for line in listed.splitlines() if line.strip()]
    kinds = sorted({", ".join(row[:2]) for row in rows})
    driver = rows[0][2] if rows and len(rows[0]) > 2 else "unknown"
    bad = [str(number) for number, row in enumerate(rows) if row[-1].isdigit() and int(row[-1]) > 0]
    wrong = f"GPU {', '.join(bad)} had uncorrected memory errors since boot: leave the node out" if bad else ""
    found = [Finding("GPUs", bool(rows) and not bad, f"{len(rows)}: {'; '.join(kinds)}, driver {driver}", wrong)]
    between = links.gpu_links(output_of(["nvidia-smi", "topo", "-m"]) or "")
    if between:
        nvlink = all(word.startswith("NV") for word in between.values())
        slow = "" if nvlink else "without NVLink between all of them ZeRO-3 is slow; zero1 or zero2 send less"
        found.append(Finding("GPU links", nvlink, links.link_words(between), slow))
    return found


def examine_networks() -> list[Finding]:
    """InfiniBand and RoCE adapters, and the interfaces that are up."""
    ports, nets = links.adapters(), links.interfaces()
    found = []
    active = [port for port in ports if port.active]
    if ports:
        words = ", ".join(f"{port.name} {port.layer} {port.rate}".strip() for port in active)
        down = f"; {len(ports) - len(active)} ports down" if len(active) < len(ports) else ""
        found.append(Finding("InfiniBand", bool(active), (words or "no port is active") + down))
    else:
        found.append(Finding("InfiniBand", False, "none", "ranks of several nodes talk over TCP"))
    words = ", ".join(net.name + (f" {net.mbps / 1000:g} Gbit/s" if net.mbps else "") for net in nets)
    follows = "where nodes have several, name one: cluster.network.interface" if len(nets) > 1 else ""
    found.append(Finding("interfaces", bool(nets), words or "none up", follows))
    return found
