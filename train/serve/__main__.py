"""The server process: `python -I -c … SETTINGS`, started by `muster serve`. The standard library comes first, so that a
Python without the packages can say so.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from conf.serving import ServeSettings
    from train.serve.app import Desk

NEEDED = ("torch", "transformers", "fastapi", "uvicorn", "msgspec")
CONNECTIONS = 256
LAST_WORDS_S = 5
START_POLL_S = 0.05


def main() -> NoReturn:
    """Serve until Ctrl-C; leave with the exit status."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        _fail(f"{sys.executable} has no {names}: pip install 'muster[train,serve]' there, or give --python", 2)
    from conf.serving import KEY_VARIABLE, decode_settings
    from train.node.process import die_with_parent, leave_process

    die_with_parent()
    settings = decode_settings(sys.argv[1])
    key = os.environ.pop(KEY_VARIABLE, "").strip().encode() or None
    if key is None and not settings.is_local:
        _fail(f"--host {settings.host} lets others in, and {KEY_VARIABLE} has no key to keep them out", 2)
    if settings.threads:
        os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        listener = socket.create_server((settings.host, settings.port), family=_family(settings.host))
    except (OSError, OverflowError) as error:
        _fail(f"cannot listen on {settings.host}:{settings.port}: {getattr(error, 'strerror', None) or error}", 1)
    leave_process(_serve(settings, listener, key))


def _serve(settings: ServeSettings, listener: socket.socket, key: bytes | None) -> int:
    import uvicorn

    address = _address(listener)
    print(f"{settings.name}: loading {settings.folder}; {address}/health says when it is ready", flush=True)
    from train.serve.app import Desk, make_app
    from train.serve.guard import Guard

    desk = Desk(settings)

    class Server(uvicorn.Server):
        """Ends the work on requests first, so that the end has not to wait for it."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            desk.turns.close()
            await super().shutdown(sockets)

    server = Server(
        uvicorn.Config(
            Guard(make_app(desk), key, settings.max_request_bytes),
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=LAST_WORDS_S,
        )
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignore)  # uvicorn ends in order, and then raises the signal once more
    failures: list[str] = []
    threading.Thread(target=_load, args=(desk, address, bool(key), server, failures), daemon=True).start()
    server.run(sockets=[listener])
    for failure in failures:
        print(f"muster serve: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _load(desk: Desk, address: str, has_key: bool, server: Any, failures: list[str]) -> None:
    """Load the model beside the server, which says meanwhile that it is loading."""
    while not server.started:  # imports hold up the loop; it shall have begun to answer
        time.sleep(START_POLL_S)
    try:
        import torch

        from train.serve.served import load

        if desk.settings.threads:
            torch.set_num_threads(desk.settings.threads)
        served = load(desk.settings)
        desk.served = served
        print("\n".join([served.in_words(), "", *_examples(desk, address, has_key), ""]), flush=True)
    except Exception as error:  # whatever a model's files or the hub have to say
        failures.append(f"{type(error).__name__}: {error}")
        server.should_exit = True


def _examples(desk: Desk, address: str, has_key: bool) -> list[str]:
    """A command to copy for each path that the model answers."""
    from train.serve.app import PATHS

    bodies = {
        "/v1/chat/completions": '{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 64}',
        "/v1/completions": '{"prompt": "Hello", "max_tokens": 64}',
        "/v1/summarize": '{"input": "A long text."}',
        "/v1/classify": '{"input": ["A text.", "Another one."]}',
    }
    served = desk.served
    if served is None:
        return []
    paths = [path for path in PATHS[served.task] if "chat" not in path or served.tokenizer.chat_template]
    key = ' -H "Authorization: Bearer $MUSTER_API_KEY"' if has_key else ""
    return [f"curl {address}{path}{key} -H 'Content-Type: application/json' -d '{bodies[path]}'" for path in paths]


def _ignore(_number: int, _frame: FrameType | None) -> None:
    return


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _address(listener: socket.socket) -> str:
    """The server's URL, with a name that others can use where it listens everywhere."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _fail(message: str, status: int) -> NoReturn:
    print(f"muster serve: {message}", file=sys.stderr)
    sys.exit(status)
