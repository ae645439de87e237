"""Print the scorers that the trainer knows after each change of a DNS zone, a line of JSON each. test_dns.py runs it in
its own network namespace, with a name server on port 53."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from dnslib import QTYPE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSServer

from trainer_svc.scorers.channels import ScorerChannels

NAME = "scorer.labelloop.svc.cluster.local"
ZONES: Sequence[Sequence[str]] = (
    ["10.0.0.1", "10.0.0.2", "10.0.0.3"],
    ["10.0.0.2", "10.0.0.3"],
    ["10.0.0.2", "10.0.0.3", "10.0.0.4"],
    [],
)


class Zone(BaseResolver):  # type: ignore[misc]  # it has no types
    def __init__(self) -> None:
        self.addresses: Sequence[str] = []

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        reply: DNSRecord = request.reply()
        if request.q.qtype == QTYPE.A:
            for address in self.addresses:
                reply.add_answer(RR(NAME, QTYPE.A, ttl=5, rdata=A(address)))
        return reply


async def main() -> None:
    zone, replicas = Zone(), ScorerChannels(f"{NAME}:50052")
    DNSServer(zone, address="127.0.0.1", port=53).start_thread()
    for addresses in ZONES:
        zone.addresses = addresses
        await replicas.look_up()
        print(json.dumps(sorted(replica.address for replica in await replicas.known())), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
