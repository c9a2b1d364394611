"""What is known of the machine and the person before a plan: cores, memory, GPUs, packages, variables that pass."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

PACKAGES = (
    "muster",
    "torch",
    "deepspeed",
    "transformers",
    "tokenizers",
    "datasets",
    "wandb",
    "hydra-core",
    "omegaconf",
)
HEAVY = ("torch", "deepspeed", "transformers", "datasets", "wandb", "huggingface_hub", "tokenizers")
PASSED = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HF_HOME",
    "HF_HUB_CACHE",
    "XDG_CACHE_HOME",
    "TORCH_HOME",
    "WANDB_BASE_URL",
)
"""Proxies, certificates and caches: what a node needs to reach the outside as the login node does."""

SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|(API|ACCESS|AUTH)_?KEY)", re.IGNORECASE)
NVIDIA_SMI_TIMEOUT_S = 20


def cpu_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> float:
    """Host memory in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def free_bytes(folder: Path) -> int | None:
    """Free bytes on the file system of a folder that may not exist yet; None where it cannot be asked."""
    for here in (folder, *folder.parents):
        try:
            found = os.statvfs(here)
        except OSError:
            continue
        return found.f_bavail * found.f_frsize
    return None


def local_gpus() -> tuple[str, ...]:
    """Names of this machine's GPUs, as nvidia-smi lists them; nothing where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None or not Path("/dev/nvidiactl").exists():
        return ()
    try:
        listed = subprocess.run(
            [program, "-L"], capture_output=True, text=True, check=False, timeout=NVIDIA_SMI_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    names = [line.split(":", 1)[1].split("(UUID")[0].strip() for line in listed.stdout.splitlines() if "GPU " in line]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(names)
    return tuple(names[: len([part for part in visible.split(",") if part.strip()])])


def versions() -> dict[str, str]:
    """Versions of the packages that matter, beside the running Python; absent ones are left out.

    Read from the names of the `.dist-info` folders: parsing each package's metadata takes twenty times as long.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = [path.name for path in Path(folder or ".").iterdir()]
        except OSError:
            continue
        for name in names:
            package, _, version = name.removesuffix(".dist-info").partition("-")
            package = package.replace("_", "-").lower()
            if package in PACKAGES and version and name.endswith(".dist-info"):
                found.setdefault(package, version)
    return dict(sorted(found.items()))


def heavy_packages() -> frozenset[str]:
    """Which of the ranks' packages the running Python has; nothing is imported."""
    return frozenset(name for name in HEAVY if importlib.util.find_spec(name) is not None)


def passing(environment: Mapping[str, str], more: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Variables that travel with a run, and notes on those that were held back.

    Run folders can be read by others, so no value with a password and no name of a secret passes.
    """
    passed: dict[str, str] = {}
    notes: list[str] = []
    for name in dict.fromkeys((*PASSED, *more)):
        value = environment.get(name)
        if value is None:
            continue
        if SECRET_NAME.search(name):
            notes.append(f"{name} does not pass: its name is a secret's; ranks read secrets from your own files")
        elif "@" in value and _has_password(value):
            notes.append(f"{name} does not pass: its value holds a password")
        elif "\n" in value or "\0" in value:
            notes.append(f"{name} does not pass: its value has several lines")
        else:
            passed[name] = value
    return passed, notes


def _has_password(value: str) -> bool:
    try:
        parts = urlsplit(value if "//" in value else f"//{value}")
        return bool(parts.username or parts.password)
    except ValueError:
        return True
