"""The owner of wandb: a mirror of the metrics on Weights & Biases, written by rank 0 alone.

Everything of wandb happens in one thread behind a queue, so that a server that is away, slow or hanging costs training
nothing; `metrics.jsonl` has everything in any case. wandb is imported in that thread, and only where it is used.
"""

from __future__ import annotations

import contextlib
import netrc
import os
import queue
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from conf.layout import RunFolder
from conf.outcome import State
from conf.record import Plan
from conf.schema import Tracker as TrackerName
from conf.schema import TrackingMode
from train.metrics.redaction import redacted

STEP = "train/global_step"
QUEUE_LENGTH = 10_000
"""Lines kept while the server is slow; later ones are dropped and counted."""
OLD_SERVER = "api.wandb.ai"
"""Keys that were stored for it are used for the server's present name as well."""
Mode = Literal["online", "offline"]
GOOD_ENDS = (State.done, State.stopped)


@dataclass(frozen=True)
class Patience:
    """How long wandb may take, in seconds: reaching the server, `init`, `finish`, and closing in all."""

    reach_s: float = 5
    init_s: float = 60
    finish_s: float = 20
    close_s: float = 30


class Tracker:
    """Metrics on their way to W&B. Every method returns at once, `close` within `Patience.close_s`; none raises."""

    def __init__(self, arguments: dict[str, Any], online: bool, warn: Callable[[str], None], patience: Patience):
        """`arguments` are wandb.init's, without mode and settings."""
        self._arguments = arguments
        self._online = online
        self._warn = warn
        self._patience = patience
        self._lines: queue.Queue[dict[str, float] | State] = queue.Queue(QUEUE_LENGTH)
        self._dropped = 0
        self._thread = threading.Thread(target=self._mirror, name="wandb", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        plan: Plan,
        folder: RunFolder,
        attempt: int,
        warn: Callable[[str], None] = print,
        patience: Patience = Patience(),
    ) -> Tracker | None:
        """A tracker for one attempt, or None where `tracking=none`. To be called on rank 0, after any fork.

        One W&B run for the Muster run: its id is the run's, resumed over every attempt. `warn` hears what went wrong.
        """
        tracking = plan.config.tracking
        if tracking.name is TrackerName.none:
            return None
        arguments = run_arguments(plan, folder, attempt)
        return cls(arguments, tracking.mode is TrackingMode.online, warn, patience)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Mirror one line of metrics."""
        try:
            self._lines.put_nowait({STEP: step, **values})
        except queue.Full:
            self._dropped += 1

    def close(self, state: str) -> None:
        """Say how the attempt ended and hand over what is still waiting."""
        if self._dropped:
            self._warn(f"W&B was too slow: {self._dropped} lines are only in metrics.jsonl")
        with contextlib.suppress(queue.Full):
            self._lines.put(State(state), timeout=1)
        self._thread.join(self._patience.close_s)
        if self._thread.is_alive():
            self._warn(f"W&B did not finish within {self._patience.close_s:.0f} s; metrics.jsonl has everything")

    def _mirror(self) -> None:
        """The life of the thread: open a run, log lines, finish."""
        try:
            run = self._start()
            while isinstance(line := self._lines.get(), dict):
                run.log(line)
            self._finish(run, line)
        except Exception as error:
            self._warn(f"W&B stopped: {words_of(error)}; metrics.jsonl goes on")

    def _start(self) -> Any:
        """A wandb run: online where that is asked for and works, else offline in the run folder."""
        if self._online:
            problem = unreachable(self._patience.reach_s)
            if problem is None:
                try:
                    return self._init("online", resume="allow")
                except Exception as error:
                    # wandb raises errors of many kinds here, and none of them may reach training.
                    problem = words_of(error)
                    end_service()
            self._online = False
            self._warn(f"W&B cannot be reached ({problem}): this attempt is tracked offline")
        return self._init("offline")

    def _init(self, mode: Mode, **more: Any) -> Any:
        return open_run(mode, self._patience, **self._arguments, **more)

    def _finish(self, run: Any, state: State) -> None:
        going_on = state in (State.preempted, State.time_limit)
        if going_on and self._online:
            run.mark_preempting()
        run.summary["state"] = state.value
        # W&B shows a run that was marked and ended with an error as preempted, and one without as finished.
        run.finish(exit_code=0 if state in GOOD_ENDS else 1)
        # Offline files are only flushed some time after `finish`, and this process is about to go.
        end_service()


def run_arguments(plan: Plan, folder: RunFolder, attempt: int) -> dict[str, Any]:
    """What wandb.init is told of a run, but for mode and settings: the same id in every attempt, no secrets."""
    tracking = plan.config.tracking
    return {
        "id": plan.run_id,
        "name": tracking.run_name or plan.run_id,
        "project": tracking.project,
        "entity": tracking.entity,
        "tags": list(tracking.tags),
        "group": tracking.group,
        "job_type": tracking.job_type,
        "dir": str(folder.path),
        "config": redacted(msgspec.to_builtins(plan.config), os.environ)
        | {"muster": {"run_id": plan.run_id, "world_size": plan.topology.world_size, "attempt": attempt}},
    }


def open_run(mode: Mode, patience: Patience, **arguments: Any) -> Any:
    """A wandb run whose metrics are drawn over the optimizer step."""
    import wandb

    settings = wandb.Settings(
        base_url=_server(),
        console="off",
        disable_git=True,
        save_code=False,
        init_timeout=patience.init_s,
        finish_timeout=patience.finish_s,
    )
    run = wandb.init(mode=mode, settings=settings, **arguments)
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP)
    return run


def unreachable(timeout_s: float) -> str | None:
    """Why the server cannot be used, if it cannot."""
    try:
        require_server(_server(), os.environ, timeout_s)
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
    if not environment.get("WANDB_API_KEY") and not any(map(_has_netrc_entry, (host, OLD_SERVER))):
        raise RuntimeError(f"no API key for {host}: set WANDB_API_KEY or run `wandb login`")
    if server.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    port = server.port or (80 if server.scheme == "http" else 443)
    with socket.create_connection((host, port), timeout_s):
        pass


def _server() -> str:
    """Where wandb would send a run."""
    import wandb

    return os.environ.get("WANDB_BASE_URL") or str(wandb.Settings().base_url)


def _has_netrc_entry(host: str) -> bool:
    try:
        return netrc.netrc(os.environ.get("NETRC") or None).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
