"""Open listening sockets."""

from __future__ import annotations

import socket

_SILENT_MS = 60_000  # a peer that acknowledges nothing for so long is gone


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on ``host``, a name or an address, at ``port``; 0 for any free one.

    On Linux, connections end whose peer acknowledges nothing for a minute. Raises OSError if the port is taken.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listening = socket.create_server((host, port), family=family)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # connections inherit it
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MS)
    return listening
