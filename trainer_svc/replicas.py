"""The scorers that there are, a channel to each, and which of them failed of late."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import structlog
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceStub
from labelloop.wire.serving import CHANNEL_OPTIONS
from labelloop.wire.tls import channel

from trainer_svc.addresses import Host, parse_hosts

_AWAY_S = 10.0
_LOOK_UP_EVERY_S = 5.0
# A scorer that hangs, or a connection that leads nowhere, is given up within seconds and another replica is asked.
_OUTLIVE_A_DEAD_PEER = [
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),  # the one that counts: it is a minute by default
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # also how long a connection may take to come about
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # It connects again of itself, where the default would wait for the next call and have that wait.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
]

LookUp = Callable[[Host], Awaitable[list[str]]]

log = structlog.get_logger()


async def resolve(host: Host) -> list[str]:
    """HOST:PORT of each number that ``host`` stands for, of one family: a scorer may have one of either."""
    infos = await asyncio.get_running_loop().getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
    by_family: dict[int, list[str]] = {}
    for family, *_, address in infos:
        by_family.setdefault(family, []).append(str(address[0]))
    if numbers := by_family.get(socket.AF_INET):
        return [f"{number}:{host.port}" for number in numbers]
    return [f"[{number}]:{host.port}" for number in by_family.get(socket.AF_INET6, [])]


class Replica:
    """One scorer, whose certificate is for ``host``. Its channel is closed once nobody holds the replica any more:
    calls on it may be under way."""

    def __init__(self, address: str, tls_dir: Path | None, host: str) -> None:
        self.address = address
        self.channel = channel(address, tls_dir, [*CHANNEL_OPTIONS, *_OUTLIVE_A_DEAD_PEER], host=host)
        self.stub = ScorerServiceStub(self.channel)
        self._away_until_s = 0.0

    @property
    def is_away(self) -> bool:
        return asyncio.get_running_loop().time() < self._away_until_s

    def failed(self, problem: str) -> None:
        """Others are to be asked for a while."""
        if not self.is_away:
            log.warning("a scorer does not answer", scorer=self.address, problem=problem)
        self._away_until_s = asyncio.get_running_loop().time() + _AWAY_S


class Replicas:
    """``target`` as :func:`parse_hosts` takes it. None is known before :meth:`look_up` has found one."""

    def __init__(self, target: str, tls_dir: Path | None = None, lookup: LookUp = resolve) -> None:
        self._hosts, self._tls_dir, self._resolve = parse_hosts(target), tls_dir, lookup
        self._fixed = all(host.is_number for host in self._hosts)
        self._found: dict[Host, list[str]] = {}
        self._known: dict[str, Replica] = {}
        self._any_known = asyncio.Event()

    async def follow(self) -> None:
        """Look up what the names stand for, again and again: replicas come and go. Numbers stay what they are."""
        await self.look_up()
        while not self._fixed:
            await asyncio.sleep(_LOOK_UP_EVERY_S)
            await self.look_up()

    async def look_up(self) -> None:
        """Know from here on the replicas that there are now."""
        for host in self._hosts:
            await self._look_up(host)
        named = {address: host.name for host, found in self._found.items() for address in found}
        self._known = {
            address: self._known.get(address) or Replica(address, self._tls_dir, host)
            for address, host in named.items()
        }
        if self._known:
            self._any_known.set()

    async def _look_up(self, host: Host) -> None:
        try:
            self._found[host] = await self._resolve(host)
        except (OSError, UnicodeError) as error:  # the latter of a name that cannot be one
            problem = f"{error}; what it stood for last holds"
            log.warning("the scorers' name cannot be looked up", name=host.name, problem=problem)

    async def known(self) -> list[Replica]:
        """All replicas, at least one: waits for the first."""
        await self._any_known.wait()
        return list(self._known.values())

    def to_ask(self, tried: Collection[str] = ()) -> dict[str, Replica]:
        """Replicas by address that were not ``tried``: those that have not failed of late, or all where all have."""
        untried = {address: replica for address, replica in self._known.items() if address not in tried}
        return {address: replica for address, replica in untried.items() if not replica.is_away} or untried

    @property
    def is_one_for_good(self) -> bool:
        """Whether there is one and will be no other: then it alone is worth waiting for."""
        return self._fixed and len(self._known) == 1

    async def close(self) -> None:
        for replica in self._known.values():
            await replica.channel.close()
