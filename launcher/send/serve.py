"""Serving on this machine: which model is meant, with which limits, and the server process with its end."""

from __future__ import annotations

import argparse
import ipaddress
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

from conf.layout import RunFolder
from conf.serving import KEY_VARIABLE, LOOPBACK, ServeSettings, encode_settings
from launcher.problems import ConfigurationError, MusterError, NotFoundError, Problem
from launcher.render.snapshot import pack_muster
from launcher.runs import target
from launcher.runs.rundir import require_safe
from launcher.send.interrupts import handled

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from train.serve.__main__ import main; main()"

LEAST = {
    "port": 0,
    "threads": 0,
    "max_request_bytes": 1,
    "max_prompt_tokens": 0,
    "max_new_tokens": 1,
    "max_texts": 1,
    "batch_size": 1,
    "queue": 0,
}
LAST_PORT = 65535


@dataclass(frozen=True)
class Model:
    """What is served: a folder, its name, the Python that trained it, and whether it brings code of its own."""

    folder: Path
    name: str
    python: str
    trust_remote_code: bool = False


def find_model(argument: str, given_root: str | None, base: str = "") -> Model:
    """The model that RUN|FOLDER means: the export of a run, else its adapter; or the folder itself.

    Raises:
        NotFoundError: there is no such run or folder, or no model in it.
        MusterError: others could have written the run's folder.
    """
    folder = Path(argument).expanduser().absolute()
    if _holds_model(folder):
        return Model(folder, folder.name, sys.executable)
    if folder.is_dir() and not RunFolder(folder).run_json.is_file():
        raise NotFoundError(f"{folder} has no {CONFIG} and no {ADAPTER_CONFIG}: it is no model, no adapter and no run")
    run = target.find(argument, given_root)
    require_safe(run)  # what it says of Python and of code that comes with the model is followed
    return _of_run(run, base)


def _of_run(run: RunFolder, base: str) -> Model:
    from conf.record import read_plan
    from conf.schema import ClusterKind, ContainerRuntime

    name = run.path.name
    found = next((folder for folder in (run.export, run.adapter) if _holds_model(folder)), None)
    if base and _holds_model(run.adapter):
        found = run.adapter
    if found is None:
        unverified = f"; its export did not pass: muster serve {run.export_unverified}" * run.export_unverified.is_dir()
        raise NotFoundError(f"{name} has no verified model{unverified}; write one: muster export {name}")
    try:
        config = read_plan(run.run_json).config
    except ValueError:  # of another version of Muster: its model is a model all the same
        return Model(found, name, sys.executable)
    cluster = config.cluster
    here = cluster.kind is ClusterKind.local or cluster.container.runtime is ContainerRuntime.none
    own = cluster.python if here and cluster.python and shutil.which(cluster.python) else None
    return Model(found, name, own or sys.executable, config.model.trust_remote_code)


def _holds_model(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or (folder / ADAPTER_CONFIG).is_file()


def require_settings(model: Model, flags: argparse.Namespace) -> ServeSettings:
    """The settings that the flags give.

    Raises:
        ConfigurationError: with every flag that is wrong.
    """
    given = {field.name: getattr(flags, field.name) for field in fields(ServeSettings) if hasattr(flags, field.name)}
    code = flags.trust_remote_code or model.trust_remote_code
    base = str(Path(flags.base).absolute()) if flags.base and Path(flags.base).is_dir() else flags.base
    own = {"folder": str(model.folder), "name": flags.name or model.name, "base": base, "trust_remote_code": code}
    settings = ServeSettings(**{**given, **own})
    problems = [
        Problem(f"--{name.replace('_', '-')}", str(getattr(settings, name)), f"has to be at least {least}")
        for name, least in LEAST.items()
        if getattr(settings, name) < least
    ]
    if settings.port > LAST_PORT:
        problems.append(Problem("--port", str(settings.port), f"has to be at most {LAST_PORT}"))
    if not settings.timeout_s > 0:
        problems.append(Problem("--timeout", f"{settings.timeout_s:g}", "has to be more than 0 s"))
    if not settings.is_local and not os.environ.get(KEY_VARIABLE, "").strip():
        rule = f"lets other machines in, and {KEY_VARIABLE} has no key to tell them apart; set it, or serve on"
        problems.append(Problem("--host", settings.host, f"{rule} {LOOPBACK[0]}"))
    if not _is_host(settings.host):
        problems.append(Problem("--host", settings.host, "has to be an address of this machine, such as 0.0.0.0"))
    if problems:
        raise ConfigurationError(problems)
    return settings


def _is_host(host: str) -> bool:
    try:
        return host in LOOPBACK or bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def serve(settings: ServeSettings, python: str) -> int:
    """Run the server until it ends; its exit status. Ctrl-C and SIGTERM are passed on to it.

    Raises:
        MusterError: Python could not be started.
    """
    with tempfile.TemporaryDirectory(prefix="muster-") as scratch:
        code = Path(scratch) / "muster.zip"
        code.write_bytes(pack_muster(Path(__file__).parents[2]))
        words = [python, "-I", "-c", START, str(code), encode_settings(settings)]
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            raise MusterError(f"cannot start {python}: {error.strerror}; give --python") from error

        try:
            with handled((signal.SIGINT, signal.SIGTERM), process.send_signal):
                return process.wait()
        finally:
            process.kill()
            process.wait()
