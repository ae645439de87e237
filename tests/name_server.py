"""A name server whose answers are as old as those of a cluster's DNS that caches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dnslib import QTYPE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer

from tests.ports import free_port


class CachedName(BaseResolver):  # type: ignore[misc]  # it has no types
    """Answers every name with ``addresses`` as they were when it last looked, up to ``cached_s`` seconds ago.

    Attributes:
        port: The port of the name server on 127.0.0.1.
    """

    def __init__(self, addresses: Sequence[str], cached_s: float, port: int) -> None:
        self.addresses, self.port, self._cached_s = list(addresses), port, cached_s
        self._known, self._known_at = list(addresses), time.monotonic()

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        if time.monotonic() - self._known_at >= self._cached_s:
            self._known, self._known_at = list(self.addresses), time.monotonic()
        reply: DNSRecord = request.reply()
        if request.q.qtype == QTYPE.A:
            for address in self._known:
                reply.add_answer(RR(request.q.qname, QTYPE.A, ttl=0, rdata=A(address)))
        return reply


@contextmanager
def name_server(addresses: Sequence[str], cached_s: float) -> Iterator[CachedName]:
    """Serve a name that stands for these addresses, which may be changed."""
    name = CachedName(addresses, cached_s, free_port())
    server = DNSServer(name, address="127.0.0.1", port=name.port, logger=DNSLogger(logf=lambda line: None))
    server.start_thread()
    try:
        yield name
    finally:
        server.stop()
        server.server.server_close()
