"""Whether there is a key for a W&B server, where wandb itself would look: the environment, ~/.netrc. Never which."""

from __future__ import annotations

import netrc
from collections.abc import Mapping
from pathlib import Path

PUBLIC_HOST = "api.wandb.ai"
"""Keys that were stored for it are used for the public server's present name as well."""


def key_place(host: str, environment: Mapping[str, str]) -> str | None:
    """Where the key for a server lies: `WANDB_API_KEY` or the path of the netrc file; None where there is none."""
    if environment.get("WANDB_API_KEY"):
        return "WANDB_API_KEY"
    try:
        path = Path(environment.get("NETRC") or "~/.netrc").expanduser()
        stored = netrc.netrc(path)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError, RuntimeError):  # the last: there is no home
        return None
    return str(path) if any(map(stored.authenticators, (host, PUBLIC_HOST))) else None
