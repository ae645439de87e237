"""SQS and S3 as simulated by moto, on the port given on the command line.

A line "down" or "up" on stdin makes it stop or start listening; queues and objects are kept meanwhile. "refuse 503 2"
makes it answer the next two requests with that status. Each line is printed when it is done."""

from __future__ import annotations

import errno
import socket
import sys
import time
from collections.abc import Callable, Iterable
from threading import Lock, Thread
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

_PATIENCE_S = 60.0


class OneAtATime:
    """moto loses a message that is sent while another is deleted. Receiving only marks messages, and may wait long."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application, self._lock = application, Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ.get("HTTP_X_AMZ_TARGET", "").endswith(".ReceiveMessage"):
            return self._application(environ, start_response)
        with self._lock:
            return self._application(environ, start_response)


class Refusing:
    """Answers the next ``count`` requests with ``status``."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application, self.status, self.count = application, 0, 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self.count <= 0:
            return self._application(environ, start_response)
        self.count -= 1
        start_response(f"{self.status} Refused", [("Content-Length", "0")])
        return [b""]


def reserved(port: int) -> socket.socket:
    """Reserve the port while moto is down: bound, though not listened on, it is not free for other programs."""
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", port))
    return keeper


def listening(port: int) -> socket.socket:
    """Listen on the port; wait while another program does, which may have been given it while moto was down."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        listener = reserved(port)
        try:
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise
            time.sleep(0.05)


def main(port: int) -> None:
    keeper = reserved(port)
    server: BaseWSGIServer | None = None
    application = Refusing(OneAtATime(DomainDispatcherApplication(create_backend_app)))
    for line in sys.stdin:
        if line.startswith("refuse"):
            _, application.status, application.count = (int(word) if word.isdigit() else 0 for word in line.split())
        elif line.strip() == "up":
            with listening(port) as listener:  # of which the server makes a copy
                server = make_server("127.0.0.1", port, application, threaded=True, fd=listener.fileno())
            Thread(target=server.serve_forever, daemon=True).start()
        elif server is not None:
            server.shutdown()
            server.server_close()
        print(line.strip(), flush=True)
    keeper.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
