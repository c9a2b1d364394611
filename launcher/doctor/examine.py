"""Everything that `muster doctor` looks at, by section; what waits for others is asked at the same time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launcher.doctor import hardware, services, software, storage
from launcher.doctor.finding import Finding
from launcher.doctor.site import Site, examine_slurm

Sections = dict[str, list[Finding]]


def examine(python: str, run_root: Path, scratch: Path, site: Site | Finding) -> Sections:
    """All findings, in the order in which a person would ask."""
    looks: dict[str, Callable[[], list[Finding]]] = {
        "Software": lambda: [
            *software.examine_python(python, scratch),
            software.examine_compiler(python),
            software.examine_path(),
        ],
        "Machine": lambda: [
            hardware.examine_machine(),
            *hardware.examine_gpus(),
            *hardware.examine_networks(),
        ],
        "Slurm": lambda: examine_slurm(site),
        "Storage": lambda: storage.examine_storage(run_root, python, scratch, isinstance(site, Site)),
        "Services": services.examine_services,
    }
    with ThreadPoolExecutor(len(looks)) as pool:
        asked = {name: pool.submit(look) for name, look in looks.items()}
        return {name: answer.result() for name, answer in asked.items()}
