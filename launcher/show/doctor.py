"""What `muster doctor` finds: each finding with what follows from it. Looks only; no secret is ever shown."""

from __future__ import annotations

import importlib.machinery
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launcher.show import units

PACKAGES = ("torch", "deepspeed", "transformers", "datasets", "peft", "wandb", "hydra-core", "msgspec")
NEEDED = ("torch", "deepspeed", "transformers", "datasets")
OWN_PACKAGES = ("conf", "launcher", "slurm", "train", "muster")
PYTHON_TIMEOUT_S = 60
COMMAND_TIMEOUT_S = 10
LITTLE_SPACE = 10 * 2**30

# Runs in the ranks' Python, which may be another one. Versions come from metadata: nothing heavy is imported.
PROBE = """
import json, sys
from importlib import metadata
versions = {}
for name in sys.argv[1:]:
    try:
        versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        versions[name] = None
print(json.dumps({"python": sys.version.split()[0], "versions": versions}))
"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `follows` says what a person has to know about it, or is empty."""

    topic: str
    ok: bool
    found: str
    follows: str = ""

    def text(self) -> str:
        """The finding in a line."""
        return f"{'ok' if self.ok else '--'}  {self.found}" + (f"; {self.follows}" if self.follows else "")

    def as_json(self) -> dict[str, Any]:
        """The finding as flat JSON."""
        return asdict(self)


def examine(python: str, run_root: str) -> list[Finding]:
    """Everything, in the order in which a person would ask."""
    return [
        *_examine_python(python),
        _examine_machine(),
        _examine_gpus(),
        _examine_compiler(),
        *_examine_slurm(),
        _examine_wandb(),
        _examine_space(run_root),
        _examine_path(),
    ]


def _examine_python(python: str) -> Iterator[Finding]:
    try:
        done = subprocess.run(
            [python, "-I", "-c", PROBE, *PACKAGES], capture_output=True, text=True, timeout=PYTHON_TIMEOUT_S, check=True
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        yield Finding("python", False, f"{python}: {error}", "ranks cannot start; set cluster.python")
        return
    recent = tuple(int(part) for part in found["python"].split(".")[:2]) >= (3, 11)
    yield Finding("python", recent, f"{found['python']} ({python})", "" if recent else "Muster needs 3.11 or newer")
    versions = found["versions"]
    missing = [name for name in NEEDED if not versions[name]]
    words = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    follows = f"without {', '.join(missing)} this Python plans and submits but does not train" if missing else ""
    yield Finding("packages", not missing, words or "none", follows)


def _examine_machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Finding("machine", True, f"{cores} cores, {units.size(memory)} memory")


def _examine_gpus() -> Finding:
    command = shutil.which("nvidia-smi") or shutil.which("rocm-smi")
    if command is None:
        return Finding("GPUs", False, "none seen", "ranks compute on the CPU: fine for the demo and small models")
    arguments = ["--query-gpu=name,memory.total", "--format=csv,noheader"] if command.endswith("nvidia-smi") else []
    try:
        done = subprocess.run(
            [command, *arguments], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("GPUs", False, f"{command} failed: {error}")
    names = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return Finding("GPUs", bool(names), f"{len(names)}: {'; '.join(sorted(set(names)))}" if arguments else names[0])


def _examine_compiler() -> Finding:
    has = {name: shutil.which(name) is not None for name in ("g++", "ninja", "nvcc")}
    words = ", ".join(f"{name} {'there' if there else 'not there'}" for name, there in has.items())
    if has["g++"] and has["ninja"]:
        return Finding("compiler", True, words, "DeepSpeed's CPU Adam can be built where states are offloaded")
    return Finding("compiler", False, words, "not needed; offloaded optimizers use torch's slower Adam")


def _examine_slurm() -> Iterator[Finding]:
    command = shutil.which("sbatch")
    if command is None:
        yield Finding("Slurm", False, "no sbatch here", "`muster run` works; to try Slurm: muster devcluster up")
        return
    from slurm.client import Client, SlurmError

    client = Client(None)
    try:
        version = client.version()
    except SlurmError as error:
        yield Finding("Slurm", False, str(error).splitlines()[0], "cluster=slurm cannot be used here now")
        return
    yield Finding("Slurm", True, f"{version} ({command})")
    limits = client.limits()
    if limits is not None:
        told = "; ".join(limits.words())
        without = "no account of yours in the accounting database"
        yield Finding("Slurm limits", bool(told), told or without, "" if told else "jobs may be refused")


def _examine_wandb() -> Finding:
    """Whether there is a key; which it is stays where it is."""
    if os.environ.get("WANDB_API_KEY"):
        return Finding("W&B key", True, "in the environment", "local runs see it; Slurm jobs read ~/.netrc")
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        there = "api.wandb.ai" in netrc.read_text(errors="replace")
        open_to_others = netrc.stat().st_mode & 0o077 != 0
    except OSError:
        there = open_to_others = False
    if there:
        return Finding(
            "W&B key", not open_to_others, f"in {netrc}", "others can read it: chmod 600" if open_to_others else ""
        )
    return Finding("W&B key", False, "none", "tracking.mode=offline needs none; online: wandb login")


def _examine_space(run_root: str) -> Finding:
    folder = Path(run_root).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return Finding(
        "free space",
        free > LITTLE_SPACE,
        f"{units.size(free)} at {folder}",
        "" if free > LITTLE_SPACE else "little for checkpoints",
    )


def _examine_path() -> Finding:
    """Entries of PYTHONPATH that hold packages of Muster's names: they would hide or be hidden."""
    hiding = []
    for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        for name in OWN_PACKAGES if entry else ():
            spec = importlib.machinery.PathFinder.find_spec(name, [entry])
            own = Path(__file__).parents[2]
            if spec is not None and Path(entry).resolve() != own.resolve():
                hiding.append(f"{entry}/{name}")
    if hiding:
        return Finding(
            "PYTHONPATH", False, f"has {', '.join(hiding)}", "Muster's own are used; the ranks ignore PYTHONPATH"
        )
    return Finding("PYTHONPATH", True, "hides nothing")
