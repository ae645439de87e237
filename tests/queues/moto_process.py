"""SQS and S3 as simulated by moto, on the port given on the command line.

A line "down" or "up" on stdin makes it close each connection as soon as it is accepted, or answer again; queues and
objects are kept meanwhile. It listens all the time, so that no other program can take its port. "refuse 503 2" makes it
answer the next two requests with that status. Each line is printed when it is done."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from threading import Lock, Thread
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import ThreadedWSGIServer


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


class Server(ThreadedWSGIServer):
    """Closes connections unanswered while it is not up."""

    is_up = False

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self.is_up


def main(port: int) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for each request
    application = Refusing(OneAtATime(DomainDispatcherApplication(create_backend_app)))
    server = Server("127.0.0.1", port, application)
    Thread(target=server.serve_forever, daemon=True).start()
    for line in sys.stdin:
        if line.startswith("refuse"):
            _, application.status, application.count = (int(word) if word.isdigit() else 0 for word in line.split())
        else:
            server.is_up = line.strip() == "up"
        print(line.strip(), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
