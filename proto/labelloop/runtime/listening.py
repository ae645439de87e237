"""Open listening sockets."""

from __future__ import annotations

import socket

_SILENT_MS = 60_000  # a peer that acknowledges nothing for so long is gone


def listening_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a socket that listens on ``host``, a name or an address, at ``port``; 0 for any free one.

    Its connections send what they have at once: asyncio sees to that only for sockets that name their protocol, which
    these do not, and an answer in two parts would wait 40 ms for the peer to acknowledge the first. On Linux,
    connections end whose peer acknowledges nothing for a minute.

    Several processes may listen side by side if each does so with ``shared``. Raises OSError if the port is taken.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listening = socket.create_server((host, port), family=family, reuse_port=shared)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it, and the next
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MS)
    return listening
