"""The ranks' Python: its packages, the compilers beside it, what of DeepSpeed can be compiled, what would hide it.

All of it is asked of that Python as a subprocess, which may be another one; nothing heavy is imported here.
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.doctor.finding import Finding

PACKAGES = ("torch", "deepspeed", "transformers", "datasets", "peft", "wandb", "hydra-core", "msgspec")
NEEDED = ("torch", "deepspeed", "transformers", "datasets")
OWN_PACKAGES = ("conf", "launcher", "slurm", "train", "muster")
PYTHON_TIMEOUT_S = 60

VERSIONS = """
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
"""Versions come from metadata: nothing heavy is imported."""

OPS = """
import contextlib, io, json, os, sys
with contextlib.redirect_stdout(io.StringIO()):
    import torch
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from deepspeed.ops.op_builder.all_ops import ALL_OPS
    from deepspeed.git_version_info import installed_ops
    names = ("cpu_adam", "fused_adam", "async_io")
    found = {}
    for name in names:
        builder = ALL_OPS.get(name)
        fits = builder is not None and builder.is_compatible(verbose=False)
        found[name] = "built" if installed_ops.get(name) else "compiles on first use" if fits else "cannot be compiled"
devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
cuda, nccl = torch.version.cuda, None
with contextlib.suppress(Exception):
    nccl = ".".join(map(str, torch.cuda.nccl.version()))
print(json.dumps({"ops": found, "cuda": cuda, "nccl": nccl, "devices": devices}))
"""
"""What torch and DeepSpeed say of themselves: the ops that Muster's configurations use, CUDA, NCCL."""


def examine_python(python: str, scratch: Path) -> Iterator[Finding]:
    """Version and packages of the ranks' Python, and what of DeepSpeed is compiled below `scratch`."""
    found, error = asked(python, VERSIONS, *PACKAGES)
    if found is None:
        yield Finding("python", False, f"{python}: {error}", "ranks cannot start; set cluster.python")
        return
    recent = tuple(int(part) for part in found["python"].split(".")[:2]) >= (3, 11)
    yield Finding("python", recent, f"{found['python']} ({python})", "" if recent else "Muster needs 3.11 or newer")
    versions = found["versions"]
    missing = [name for name in NEEDED if not versions[name]]
    words = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    without = f"without {', '.join(missing)} this Python plans and submits but does not train: pip install '.[train]'"
    yield Finding("packages", not missing, words or "none", without if missing else "")
    if versions["torch"] and versions["deepspeed"]:
        yield from _examine_ops(python, scratch)


def _examine_ops(python: str, scratch: Path) -> Iterator[Finding]:
    found, error = asked(python, OPS)
    if found is None:
        yield Finding("DeepSpeed", False, f"cannot be imported: {error}", "ranks would fail the same way")
        return
    nccl = f", NCCL {found['nccl']}" if found["nccl"] else ""
    cuda = f"CUDA {found['cuda']}{nccl}" if found["cuda"] else "a build without CUDA"
    seen = f", sees {len(found['devices'])} GPUs" if found["cuda"] else ""
    yield Finding("torch", True, cuda + seen)
    states: dict[str, str] = found["ops"]
    for built in sorted(scratch.glob(f"muster-{os.getuid()}/extensions/*/*/*.so")):
        states[built.parent.name] = f"built ({built.parent})"
    words = ", ".join(f"{name} {state}" for name, state in states.items())
    later = {
        "compiles on first use": "muster doctor --build-ops compiles CPU Adam now, not in the first run",
        "cannot be compiled": "offloaded optimizers use torch's slower Adam",
    }.get(states["cpu_adam"], "")
    yield Finding("compiled ops", states["cpu_adam"] != "cannot be compiled", words, later)


def asked(python: str, program: str, *words: str) -> tuple[dict[str, Any] | None, str]:
    """What a program says in its last line as JSON, or None and why not."""
    command = [python, "-I", "-c", program, *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PYTHON_TIMEOUT_S, check=False)
        if done.returncode:
            return None, (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return None, f"no answer within {PYTHON_TIMEOUT_S} s"
    except (OSError, ValueError, IndexError) as error:
        return None, str(error)
    return answer, ""


def examine_compiler(python: str) -> Finding:
    """What DeepSpeed compiles its ops with; ninja may lie beside the Python."""
    places = os.pathsep.join([os.environ.get("PATH", ""), str(Path(python).parent)])
    has = {name: shutil.which(name, path=places) is not None for name in ("g++", "ninja", "nvcc")}
    words = ", ".join(f"{name} {'there' if there else 'not there'}" for name, there in has.items())
    if has["g++"] and has["ninja"]:
        return Finding("compiler", True, words)
    return Finding("compiler", False, words, "not needed; offloaded optimizers use torch's slower Adam")


def examine_path() -> Finding:
    """Entries of PYTHONPATH that hold packages of Muster's names: they would hide or be hidden."""
    hiding = []
    for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        for name in OWN_PACKAGES if entry else ():
            spec = importlib.machinery.PathFinder.find_spec(name, [entry])
            own = Path(__file__).parents[2]
            if spec is not None and Path(entry).resolve() != own.resolve():
                hiding.append(f"{entry}/{name}")
    if hiding:
        follows = "Muster's own are used; the ranks ignore PYTHONPATH"
        return Finding("PYTHONPATH", False, f"has {', '.join(hiding)}", follows)
    return Finding("PYTHONPATH", True, "hides nothing")
