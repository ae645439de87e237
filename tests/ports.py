"""Ports for servers that must be told theirs beforehand."""

from __future__ import annotations

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """Below the range from which the kernel gives clients theirs: nobody takes it before the server does."""
    while True:
        port = random.randrange(20_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
