"""Which W&B server is meant and whether there is a key for it, where wandb itself would look. Never which key."""

from __future__ import annotations

import configparser
import netrc
from collections.abc import Mapping
from pathlib import Path

PUBLIC_HOST = "api.wandb.ai"
"""Keys that were stored for it are used for the public server's present name as well."""


def server_address(environment: Mapping[str, str]) -> str:
    """WANDB_BASE_URL, else what `wandb login --host=…` wrote down, else the public server."""
    own, project = environment.get("WANDB_CONFIG_DIR") or "~/.config/wandb", environment.get("WANDB_DIR") or "."
    stored = map(_stored_address, (Path(project, "wandb", "settings"), Path(own, "settings")))
    return environment.get("WANDB_BASE_URL") or next(filter(None, stored), f"https://{PUBLIC_HOST}")


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


def _stored_address(path: Path) -> str:
    """The server in a file of wandb's settings; nothing where it names none or cannot be read."""
    settings = configparser.RawConfigParser()
    try:
        settings.read(path.expanduser())
        return settings.get("default", "base_url", fallback="")
    except (OSError, configparser.Error, UnicodeDecodeError, RuntimeError):  # the last: there is no home
        return ""
