"""What every request passes first: the key, the host it is for, its size, and whether its client is still there."""

from __future__ import annotations

import asyncio
import hmac
import sys
import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conf.serving import LOOPBACK
from train.serve.errors import ApiError

OPEN_PATHS = ("/health",)
BODY_S = 30.0
"""Longest that a client may take to send a request."""

DRAINED_BYTES = 8 << 20
"""What is read and thrown away of a request that is too large, so that its client gets to see the refusal."""

SHOWN_PATH = 80


class Guard:
    """ASGI middleware around the app.

    A client that goes away ends the work on its request: the app's task is cancelled. Without a key the server is for
    this machine alone, so requests that name another host are refused: pages in a browser can be made to send those.
    """

    def __init__(self, app: ASGIApp, key: bytes | None, max_bytes: int) -> None:
        self._app = app
        self._key = key
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        request = _Request(scope, send)
        try:
            self._admit(scope)
            body = await self._read(scope, receive)
        except ApiError as error:
            error.headers["Connection"] = "close"
            await error.response()(scope, receive, request.send)
        else:
            if body is not None:
                await request.answer(self._app, body, receive)
        request.log()

    def _admit(self, scope: Scope) -> None:
        headers = _headers(scope["headers"])
        if self._key is None:
            host = headers.get(b"host", b"").decode("latin-1")
            if _name(host) not in LOOPBACK:
                raise ApiError(403, f"this server is for {' and '.join(LOOPBACK[:2])}, not for {host!r}")
            return
        given = headers.get(b"authorization", b"")
        good = given[:7].lower() == b"bearer " and hmac.compare_digest(given[7:].strip(), self._key)
        if not good and scope["path"] not in OPEN_PATHS:
            message = "the key is wrong" if given else "a key is needed: Authorization: Bearer …"
            raise ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body; None where the client went away."""
        try:
            async with asyncio.timeout(BODY_S):
                return await self._read_at_most(receive)
        except TimeoutError:
            raise ApiError(408, f"the request was not here within {BODY_S:g} s") from None

    async def _read_at_most(self, receive: Receive) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size <= self._max_bytes:
                parts.append(part)
            more = message.get("more_body", False)
            if size > self._max_bytes and (not more or size > self._max_bytes + DRAINED_BYTES):
                raise ApiError(413, f"a request may have {self._max_bytes} bytes", code="request_too_large")
            if not more:
                return b"".join(parts)


class _Request:
    """One request on its way through the app."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._started = time.monotonic()
        self._status = 0
        self._complete = False

    async def send(self, message: Message) -> None:
        """Pass a message on, and remember how far the answer is."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body":
            self._complete = not message.get("more_body", False)
        await self._send(message)

    async def answer(self, app: ASGIApp, body: bytes, receive: Receive) -> None:
        """Run the app on a request that was read; its end is the answer's, or the client's."""
        gone = asyncio.ensure_future(receive())
        bodies = [body]

        async def replay() -> Message:
            if bodies:
                return {"type": "http.request", "body": bodies.pop(), "more_body": False}
            await asyncio.shield(gone)
            return {"type": "http.disconnect"}

        work = asyncio.ensure_future(app(self._scope, replay, self.send))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not self._complete:
                work.cancel()
            await asyncio.wait({work})
            if not work.cancelled():
                work.result()
        finally:
            work.cancel()
            gone.cancel()

    def log(self) -> None:
        """One line a request; what it said is in no log."""
        if self._scope["path"] in OPEN_PATHS:
            return
        path = self._scope.get("raw_path", b"").decode("ascii", "replace")[:SHOWN_PATH]
        ended = str(self._status) if self._complete else f"{self._status or '-'} client gone"
        seconds = time.monotonic() - self._started
        print(f"{self._scope['method']} {path} {ended} {seconds:.2f} s", file=sys.stderr, flush=True)


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in pairs}


def _name(host: str) -> str:
    """The name in a Host header, without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
