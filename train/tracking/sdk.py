"""The owner of wandb: reaching a server, opening a run, ending the SDK's service. wandb is imported only in here, late.

Which server and where its key lies: `conf.wandb_login`, whose address every run is given.
"""

from __future__ import annotations

import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from conf.wandb_login import key_place, server_address

STEP = "train/global_step"
"""The x-axis of every chart, as Hugging Face's callback has it."""
Mode = Literal["online", "offline"]


@dataclass(frozen=True)
class Patience:
    """How long wandb may take, in seconds: reaching the server, `init`, `finish`, and closing in all."""

    reach_s: float = 5
    init_s: float = 60
    finish_s: float = 20
    close_s: float = 30


def _ignore() -> None:
    """No stop button is heard."""


def open_run(mode: Mode, patience: Patience, on_stop: Callable[[], None] = _ignore, **arguments: Any) -> Any:
    """A wandb run whose metrics are drawn over the optimizer step.

    `on_stop` is called, in a thread of wandb's, where somebody presses the stop button on the run's page; without it
    the SDK would interrupt this process.
    """
    # Where files wait to be sent; the SDK's own place is a home folder, which is small on many clusters.
    os.environ.setdefault("WANDB_DATA_DIR", str(Path(arguments["dir"], "wandb", "data")))
    import wandb

    settings = wandb.Settings(
        base_url=server_address(os.environ),
        console="off",
        disable_git=True,
        save_code=False,
        init_timeout=patience.init_s,
        finish_timeout=patience.finish_s,
        stop_fn=on_stop,
    )
    run = wandb.init(mode=mode, settings=settings, **arguments)
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP)
    return run


def table(lines: list[dict[str, Any]]) -> Any:
    """A wandb table of lines, which may have different keys."""
    import wandb

    columns = list(dict.fromkeys(name for line in lines for name in line))
    return wandb.Table(columns=columns, data=[[line.get(name) for name in columns] for line in lines])


def artifact(name: str, kind: str, **metadata: Any) -> Any:
    """An empty wandb artifact."""
    import wandb

    return wandb.Artifact(name=name, type=kind, metadata=metadata)


def unreachable(timeout_s: float) -> str | None:
    """Why the server cannot be used, if it cannot."""
    try:
        require_server(server_address(os.environ), os.environ, timeout_s)
    except (RuntimeError, OSError) as error:
        return words_of(error)
    return None


def end_service() -> None:
    """Take wandb's service process down; waits for it. It also keeps the id of a run that failed to start in use."""
    import wandb

    wandb.teardown()


def words_of(error: Exception) -> str:
    """An error on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def require_server(address: str, environment: Mapping[str, str], timeout_s: float) -> None:
    """Check that there is a key and that the server takes connections: wandb itself would ask a person, or wait long.

    Raises:
        RuntimeError: there is no API key for the server.
        OSError: the server does not answer. Not checked behind a proxy.
    """
    server = urllib.parse.urlsplit(address)
    host = server.hostname or ""
    if key_place(host, environment) is None:
        raise RuntimeError(f"no API key for {host}: set WANDB_API_KEY or run `wandb login`")
    if server.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    port = server.port or (80 if server.scheme == "http" else 443)
    with socket.create_connection((host, port), timeout_s):
        pass
