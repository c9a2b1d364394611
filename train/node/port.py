"""A port that this node listens on before anybody is told of it."""

from __future__ import annotations

import errno
import socket

PORTS_TRIED = 64


def listen(port: int, tries: int = PORTS_TRIED) -> socket.socket:
    """A listening socket on `port`, or on the next one that is free.

    Raises:
        OSError: EADDRINUSE where `tries` ports in a row are taken.
    """
    for candidate in range(port, port + tries):
        listener = socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET)
        try:
            if listener.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", candidate))
            listener.listen(2048)
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"ports {port} to {port + tries - 1} are all taken")
