"""Discover the scorer replicas, keep a gRPC channel to each, and remember which of them failed recently."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import grpc
import structlog
from labelloop.rpc.server import CHANNEL_OPTIONS, OUTLIVE_A_DEAD_PEER
from labelloop.rpc.tls import channel
from labelloop.runtime.waits import waiting_for
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceStub

from trainer_svc.scorers.addresses import Host, parse_hosts

_AWAY_S = 10.0
_UNCONNECTED = (grpc.ChannelConnectivity.CONNECTING, grpc.ChannelConnectivity.TRANSIENT_FAILURE)
_LOOK_UP_EVERY_S = 5.0
# Reconnects on its own; by default, the channel would reconnect at the next call, which would have to wait.
_RECONNECT = ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))

LookUp = Callable[[Host], Awaitable[list[str]]]

log = structlog.get_logger()


async def resolve(host: Host) -> list[str]:
    """Resolve a host to ADDRESS:PORT of each of its IP addresses.

    All are of one family, IPv4 if there are any, because a scorer may have an address of each.
    """
    infos = await asyncio.get_running_loop().getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
    by_family: dict[int, list[str]] = {}
    for family, *_, address in infos:
        by_family.setdefault(family, []).append(str(address[0]))
    if numbers := by_family.get(socket.AF_INET):
        return [f"{number}:{host.port}" for number in numbers]
    return [f"[{number}]:{host.port}" for number in by_family.get(socket.AF_INET6, [])]


class ScorerChannel:
    """The channel to one scorer replica, whose certificate is for ``host``.

    The channel of a replica that is gone closes with the last reference to it, because calls may be in progress on it.
    """

    def __init__(self, address: str, tls_dir: Path | None, host: str) -> None:
        self.address = address
        self.channel = channel(address, tls_dir, [*CHANNEL_OPTIONS, *OUTLIVE_A_DEAD_PEER, _RECONNECT], host=host)
        self.stub = ScorerServiceStub(self.channel)
        self._away_until_s = 0.0

    @property
    def is_away(self) -> bool:
        return asyncio.get_running_loop().time() < self._away_until_s

    def failed(self, problem: str) -> None:
        """Mark the replica as away for ten seconds, during which others are preferred."""
        if not self.is_away:
            log.warning("scorer_unreachable", scorer=self.address, problem=problem)
        self._away_until_s = asyncio.get_running_loop().time() + _AWAY_S


class ScorerChannels:
    """The scorer replicas that are currently known, and the channels to them.

    ``target`` has the form that :func:`parse_hosts` parses. No replica is known before the first :meth:`look_up`.
    """

    def __init__(self, target: str, tls_dir: Path | None = None, lookup: LookUp = resolve) -> None:
        self._hosts, self._tls_dir, self._resolve = parse_hosts(target), tls_dir, lookup
        self._fixed = all(host.is_number for host in self._hosts)
        self._found: dict[Host, list[str]] = {}
        self._known: dict[str, ScorerChannel] = {}
        self._any_known = asyncio.Event()

    async def follow(self) -> None:
        """Look up host names every five seconds, as replicas come and go; return at once if all are IP addresses."""
        await self.look_up()
        while not self._fixed:
            await asyncio.sleep(_LOOK_UP_EVERY_S)
            await self.look_up()

    async def look_up(self) -> None:
        """Resolve all hosts and update the known replicas; a host that cannot be resolved keeps its last addresses."""
        for host in self._hosts:
            await self._look_up(host)
        named = {address: host.name for host, found in self._found.items() for address in found}
        self._known = {
            address: self._known.get(address) or ScorerChannel(address, self._tls_dir, host)
            for address, host in named.items()
        }
        if self._known:
            self._any_known.set()

    async def _look_up(self, host: Host) -> None:
        try:
            self._found[host] = await self._resolve(host)
        except (OSError, UnicodeError) as error:  # UnicodeError: the name cannot be a host name
            problem = f"{error}; what it stood for last holds"
            log.warning("scorer_lookup_failed", name=host.name, problem=problem)

    async def known(self) -> list[ScorerChannel]:
        """Return all known replicas; wait for the first one if there is none yet."""
        if not self._known:
            with waiting_for("scorers", self._why_none):
                await self._any_known.wait()
        return list(self._known.values())

    def to_ask(self, tried: Collection[str] = ()) -> dict[str, ScorerChannel]:
        """Return the channels that were not ``tried``, by address: those that have not failed lately, else all."""
        untried = {address: replica for address, replica in self._known.items() if address not in tried}
        return {address: replica for address, replica in untried.items() if not replica.is_away} or untried

    def _why_none(self) -> str:
        """Return why no replica is known; empty if one is."""
        if self._known:
            return ""
        names = ", ".join(f"{host.name}:{host.port}" for host in self._hosts)
        return f"no scorer is known: no name of LABELLOOP_SCORER={names} has an address; start one, or mend the name"

    def unconnected(self) -> list[str]:
        """Return the addresses of the replica that calls wait for, if there is one for good and no connection to it."""
        if not self.is_one_for_good:
            return []
        return [address for address, each in self._known.items() if each.channel.get_state() in _UNCONNECTED]

    @property
    def is_one_for_good(self) -> bool:
        """Whether there is one replica and never will be another, so that calls should wait for it."""
        return self._fixed and len(self._known) == 1

    async def close(self) -> None:
        for replica in self._known.values():
            await replica.channel.close()
