"""How the GPUs of a machine reach each other, and the machine others: `nvidia-smi topo -m`, /sys. Mostly pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

INFINIBAND = Path("/sys/class/infiniband")
INTERFACES = Path("/sys/class/net")
PHYSICAL = re.compile(r"^(en|eth|ib|hsn|bond|mlx|roce|rdma)")
MEANING = {
    "NV": "NVLink",
    "PIX": "one PCIe bridge",
    "PXB": "several PCIe bridges",
    "PHB": "PCIe through the host",
    "NODE": "PCIe within a socket",
    "SYS": "across sockets",
}


@dataclass(frozen=True)
class Adapter:
    """An InfiniBand or RoCE adapter: `rate` as the kernel writes it, `layer` InfiniBand or Ethernet."""

    name: str
    rate: str
    layer: str
    active: bool

    @property
    def gbps(self) -> float | None:
        """Gbit/s of its port."""
        found = re.match(r"([\d.]+) Gb", self.rate)
        return float(found[1]) if found else None


@dataclass(frozen=True)
class Interface:
    """A network interface that is up; `mbps` None where the kernel does not know."""

    name: str
    mbps: int | None


def gpu_links(topology: str) -> dict[tuple[int, int], str]:
    """What lies between each two GPUs (`NV18`, `PIX`, `SYS`) in the output of `nvidia-smi topo -m`."""
    lines = [line.split() for line in re.sub(r"\x1b\[[0-9;]*m", "", topology).splitlines()]
    header = next((words for words in lines if words[:1] == ["GPU0"] and "X" not in words), [])
    columns = [word for word in header if re.fullmatch(r"(GPU|NIC|mlx)\w*", word)]
    found = {}
    for words in lines:
        if words and words != header and (row := re.fullmatch(r"GPU(\d+)", words[0])):
            for column, word in zip(columns, words[1:], strict=False):
                other = re.fullmatch(r"GPU(\d+)", column)
                if other and int(row[1]) < int(other[1]):
                    found[int(row[1]), int(other[1])] = word
    return found


def link_words(links: dict[tuple[int, int], str]) -> str:
    """The links in words: `NV18 (NVLink) between all GPUs`, or how many pairs have what."""
    kinds = Counter(links.values())

    def named(word: str) -> str:
        meaning = MEANING.get("NV" if word.startswith("NV") else word)
        return f"{word} ({meaning})" if meaning else word

    if len(kinds) == 1:
        return f"{named(next(iter(kinds)))} between all GPUs"
    return ", ".join(f"{count} pairs {named(word)}" for word, count in kinds.most_common())


def adapters(folder: Path = INFINIBAND) -> list[Adapter]:
    """The ports under /sys/class/infiniband."""
    return [
        Adapter(
            port.parent.parent.name,
            _read(port / "rate"),
            _read(port / "link_layer"),
            "ACTIVE" in _read(port / "state"),
        )
        for port in sorted(folder.glob("*/ports/*"))
    ]


def interfaces(folder: Path = INTERFACES) -> list[Interface]:
    """Interfaces of real networks that are up."""
    return list(_interfaces(folder))


def _interfaces(folder: Path) -> Iterator[Interface]:
    for place in sorted(folder.glob("*")):
        if PHYSICAL.match(place.name) and _read(place / "operstate") == "up":
            speed = _read(place / "speed")
            yield Interface(place.name, int(speed) if speed.isdigit() else None)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
