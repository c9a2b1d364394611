"""What pre-flights say to each other over TCP: JSON in frames, each signed with the attempt's token.

The token lies in the run folder, which only its owner (and group) reads, so nobody else can make a node look bad.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import struct
from typing import Any

LARGEST = 1 << 20
_HEAD = struct.Struct(">I32s")


class WireError(OSError):
    """The other end is none of this attempt's pre-flights, or has gone."""


def send(connection: socket.socket, token: bytes, content: dict[str, Any]) -> None:
    """Send one frame."""
    payload = json.dumps(content).encode()
    connection.sendall(_HEAD.pack(len(payload), _sign(token, payload)) + payload)


def receive(connection: socket.socket, token: bytes) -> dict[str, Any]:
    """The next frame.

    Raises:
        WireError: it is not signed with the token, or the connection was closed.
        TimeoutError: nothing came within the socket's own time limit.
    """
    size, signature = _HEAD.unpack(_read(connection, _HEAD.size))
    if size > LARGEST:
        raise WireError("a frame that is none of ours")
    payload = _read(connection, size)
    if not hmac.compare_digest(signature, _sign(token, payload)):
        raise WireError("a frame that is not signed with this attempt's token")
    content = json.loads(payload)
    if not isinstance(content, dict):
        raise WireError("a frame without an object")
    return content


def swallow(connection: socket.socket, size: int) -> None:
    """Read `size` bytes and forget them."""
    while size:
        got = len(connection.recv(min(size, LARGEST)))
        if not got:
            raise WireError("the connection was closed")
        size -= got


def _read(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise WireError("the connection was closed")
        parts += part
    return bytes(parts)


def _sign(token: bytes, payload: bytes) -> bytes:
    return hmac.digest(token, payload, hashlib.sha256)
