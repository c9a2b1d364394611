"""The network of a devcluster: a bridge on this machine and a network namespace for each node."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

from slurm.devcluster.record import INTERFACE, DevclusterError, Record

NAMESPACES = Path("/run/netns")


def bridge_name(network: int) -> str:
    return f"muster-br{network}"


def namespace_name(network: int, number: int) -> str:
    return f"muster{network}-node{number}"


def namespace_path(network: int, number: int) -> Path:
    return NAMESPACES / namespace_name(network, number)


def cable_name(network: int, number: int) -> str:
    """The end of a node's cable at the bridge."""
    return f"muster{network}v{number}"


def free_network(wanted: int) -> int:
    """The first subnet number from `wanted` on that no address of this machine uses."""
    used = {address.split(".")[2] for address in _addresses() if address.startswith("10.213.")}
    for step in range(250):
        network = 1 + (wanted - 1 + step) % 250
        if str(network) not in used and not list(NAMESPACES.glob(f"muster{network}-node*")):
            return network
    raise DevclusterError("all subnets 10.213.1.0/24 to 10.213.250.0/24 are in use")


def make(record: Record) -> None:
    """Make bridge, namespaces and the cables between them."""
    assert record.network is not None
    bridge = bridge_name(record.network)
    _ip("link", "add", bridge, "type", "bridge")
    _ip("link", "set", bridge, "alias", record.folder)
    _ip("address", "add", f"{record.controller_address}/24", "dev", bridge)
    _ip("link", "set", bridge, "up")
    for number in range(1, record.nodes + 1):
        space = namespace_name(record.network, number)
        cable = cable_name(record.network, number)
        _ip("netns", "add", space)
        _ip("link", "add", cable, "type", "veth", "peer", "name", INTERFACE, "netns", space)
        _ip("link", "set", cable, "master", bridge, "up")
        _ip("-n", space, "address", "add", f"{record.node_address(number)}/24", "dev", INTERFACE)
        _ip("-n", space, "link", "set", INTERFACE, "up")
        _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", space, "route", "add", "default", "via", record.controller_address)


def remove(network: int) -> None:
    """Remove what `make` made; also a part of it, also twice.

    Cables by themselves: they go with their namespace only once its last process has ended, and their names are wanted.
    """
    for path in sorted(NAMESPACES.glob(f"muster{network}-node*")):
        number = int(path.name.rpartition("node")[2])
        for words in (("link", "delete", cable_name(network, number)), ("netns", "delete", path.name)):
            with contextlib.suppress(DevclusterError):
                _ip(*words)
    with contextlib.suppress(DevclusterError):
        _ip("link", "delete", bridge_name(network))


def inodes(network: int, number: int | None = None) -> list[int]:
    """The numbers by which the kernel knows the namespaces of all nodes or of one, as in /proc/PID/ns/net."""
    which = "*" if number is None else str(number)
    return [path.stat().st_ino for path in NAMESPACES.glob(f"muster{network}-node{which}")]


def switch_link(record: Record, number: int, on: bool) -> None:
    """Take the carrier from a node's interface, or give it back; its addresses and routes stay."""
    assert record.network is not None
    _ip("link", "set", cable_name(record.network, number), "up" if on else "down")


def isolate(record: Record, number: int, cut: bool) -> None:
    """An isolated port of the bridge reaches no other isolated port, but all the rest (ip-link(8), bridge_slave)."""
    assert record.network is not None
    _ip("link", "set", cable_name(record.network, number), "type", "bridge_slave", "isolated", "on" if cut else "off")


def network_of(folder: Path) -> int | None:
    """The subnet number of a bridge that carries `folder` as its alias: for a devcluster whose record is lost."""
    with contextlib.suppress(DevclusterError, ValueError):
        for link in json.loads(_ip("-j", "link", "show", "type", "bridge") or "[]"):
            if link.get("ifalias") == str(folder):
                return int(str(link["ifname"]).removeprefix("muster-br"))
    return None


def _addresses() -> list[str]:
    links = json.loads(_ip("-j", "-4", "address", "show") or "[]")
    return [info["local"] for link in links for info in link.get("addr_info", [])]


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise DevclusterError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
