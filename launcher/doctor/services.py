"""W&B and the model hub: whether they answer from here, and whether there are keys. No key is ever shown or sent."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from conf.wandb_login import key_place, server_address
from launcher.doctor.finding import Finding

TIMEOUT_S = 3.0
HUB = "https://huggingface.co"


def examine_services() -> list[Finding]:
    """The key of W&B; both services, at the same time, in a few seconds."""
    addresses = {
        "W&B": server_address(os.environ),
        "hub": os.environ.get("HF_ENDPOINT") or HUB,
    }
    follows = {
        "W&B": "tracking.mode=offline, and later `muster push RUN` from where it answers",
        "hub": "models and data have to be folders and files, or in the hub's cache already",
    }
    answers = reach(list(addresses.values()))
    found = [examine_key(addresses["W&B"], os.environ)]
    for topic, address in addresses.items():
        problem = answers[address]
        text = f"{without_user(address)} {problem or 'answers'}"
        found.append(Finding(topic, not problem, text, follows[topic] if problem else ""))
    return found


def reach(addresses: list[str], timeout_s: float = TIMEOUT_S) -> dict[str, str]:
    """Why each address does not answer, or nothing where it does. Threads that a resolver holds up are left behind."""
    answers: dict[str, str] = {}

    def ask(address: str) -> None:
        answers[address] = _problem(address, timeout_s)

    threads = [threading.Thread(target=ask, args=(address,), daemon=True) for address in addresses]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout_s + 1
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return {address: answers.get(address, f"does not answer within {timeout_s:g} s") for address in addresses}


def without_user(address: str) -> str:
    """An address without the name and password that it may carry, as it may be shown and asked."""
    parts = urllib.parse.urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _problem(address: str, timeout_s: float) -> str:
    if not address.startswith(("https://", "http://")):
        return "is not an address"
    headers = {"User-Agent": "muster-doctor"}
    request = urllib.request.Request(without_user(address), method="HEAD", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s):
            return ""
    except urllib.error.HTTPError:
        return ""  # it answered, with a status of its own
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        late = isinstance(reason, TimeoutError | socket.timeout)
        return f"does not answer within {timeout_s:g} s" if late else f"cannot be reached: {reason}"


def examine_key(address: str, environment: Mapping[str, str]) -> Finding:
    """Whether there is a key for the W&B server; which it is stays where it is."""
    host = urllib.parse.urlsplit(address).hostname or address
    place = key_place(host, environment)
    if place is None:
        return Finding("W&B key", False, f"none for {host}", "tracking.mode=offline needs none; online: wandb login")
    if place == "WANDB_API_KEY":
        return Finding("W&B key", True, "in the environment", "local runs see it; Slurm jobs read ~/.netrc")
    exposed = Path(place).stat().st_mode & 0o077 != 0
    return Finding("W&B key", not exposed, f"in {place}", "others can read it: chmod 600" if exposed else "")
