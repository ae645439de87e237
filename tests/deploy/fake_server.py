"""Serve a :class:`FakeCluster` on localhost."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.deploy import protobuf_secret
from tests.deploy.fake_cluster import FakeCluster, Refused, Request


class _Handler(BaseHTTPRequestHandler):
    cluster: FakeCluster
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        url = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = protobuf_secret.decoded(raw) if raw.startswith(protobuf_secret.MAGIC) else yaml.safe_load(raw or b"null")
        patch = self.headers.get("Content-Type", "") if self.command == "PATCH" else ""
        try:
            answer = self.cluster.answer(Request(self.command, url.path, parse_qs(url.query), body, patch))
            code = 201 if self.command == "POST" else 200
        except Refused as error:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": str(error)}
            code, answer = error.code, {**status, "reason": error.reason, "code": error.code}
        watched = "watch" in parse_qs(url.query)  # nothing changes by itself
        data = b"" if watched else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Write nothing: tests look at ``requests``."""


@contextmanager
def serving(tls: Path | None = None) -> Iterator[FakeCluster]:
    """Serve an empty cluster, over TLS with the certificate of a folder if one is given."""
    cluster = FakeCluster()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": cluster}))
    server.daemon_threads = True
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "tls.crt", tls / "tls.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    cluster.address = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def kubeconfig(cluster: FakeCluster, file: Path) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fake", "cluster": {"server": cluster.address}}],
        "users": [{"name": "fake", "user": {}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        "current-context": "fake",
    }
    file.write_text(yaml.safe_dump(config))
    return file
