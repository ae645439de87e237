"""Lease requests to annotators and tools, so that nobody else is given them meanwhile.

Leases are kept in a stream of their own, the newest state of each under its subject, written by compare-and-swap: of
two concurrent claims one succeeds. They are hints: if they are lost, two annotators may label the same sample, and the
event log records one of the labels.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from math import inf

import structlog
from labelloop.domain.ids import LeaseKey
from labelloop.errors import InvalidInput
from labelloop.eventlog.conditional_publish import publish_over
from labelloop.eventlog.connection import jetstream
from labelloop.eventlog.ordered_consumer import follow_stream
from labelloop.eventlog.retry import retry_while_away
from labelloop.eventlog.rollback_guard import UnguardedLog
from labelloop.eventlog.stream_setup import wait_for_stream
from labelloop.eventlog.streams import LEASES, LEASES_PREFIX, leases
from nats.aio.client import Client
from nats.js.errors import NotFoundError
from pydantic import TypeAdapter, ValidationError

from oracle_svc.lease_table import RESEND_S, Lease, LeaseTable

STREAM, PREFIX = LEASES, LEASES_PREFIX
_KEYS = f"{PREFIX}.*.*.*.*"  # other subjects are not leases: see web/ended_sessions.py
_LEASE = TypeAdapter(Lease)

log = structlog.get_logger()


class Leases(LeaseTable):
    """All leases, followed from the stream."""

    def __init__(self, client: Client, now: Callable[[], float] = time.time, resend_s: float = RESEND_S) -> None:
        super().__init__(now, resend_s)
        self._client, self._js = client, jetstream(client)
        self._rollback_guard = UnguardedLog(self._js, STREAM)

    async def ensure_stream(self, replicas: int = 1) -> None:
        await wait_for_stream(self._client, leases(replicas))

    async def follow(self) -> None:
        """Track the leases that other replicas write, until cancelled."""
        async for message in follow_stream(self._client, self._js, STREAM, _KEYS, 0, self._rollback_guard):
            self._hear(message.subject, message.data, message.metadata.sequence.stream)

    def _hear(self, subject: str, data: bytes, sequence: int) -> None:
        try:
            key = LeaseKey.parse(subject.removeprefix(f"{PREFIX}."))
        except InvalidInput as error:  # written by another release: it holds nothing that this one asks for
            log.warning("lease_ignored", subject=subject, problem=error.message)
            return
        self._note(key, _lease(data, sequence))

    def _note(self, key: LeaseKey, lease: Lease) -> None:
        if lease.sequence > self.lease(key).sequence:
            self.put(key, lease)

    async def take(self, key: LeaseKey, holder: str, for_s: float) -> float:
        """Take the lease for ``for_s`` seconds, or renew the holder's own.

        Returns:
            When it expires, in seconds since the epoch; 0.0 if somebody else holds it, or another call took it first.
        """
        if self.holder(key) not in ("", holder):
            return 0.0
        lease = Lease(holder, self._now() + for_s, self.pushes(key))
        return lease.expires_at if await self._write(key, lease) else 0.0

    async def hand_over(self, key: LeaseKey, holder: str, to: str, for_s: float) -> float:
        """Give the lease of ``holder`` to another for ``for_s`` seconds.

        Returns:
            When it expires, in seconds since the epoch; 0.0 if ``holder`` did not hold it, or renewed it just now.
        """
        if self.holder(key) != holder:
            return 0.0
        lease = Lease(to, self._now() + for_s, self.pushes(key))
        return lease.expires_at if await self._write(key, lease) else 0.0

    async def release(self, key: LeaseKey, holder: str) -> bool:
        """Release the lease; return whether ``holder`` held it until now."""
        return self.holder(key) == holder and await self._write(key, Lease("", 0.0, self.pushes(key)))

    async def confirm(
        self, key: LeaseKey, holder: str, taken_until: float, *, next_revision: int = 0, kept_s: float = inf
    ) -> None:
        """Note that the request of a lease is in the tool, unless the lease was shortened meanwhile.

        Args:
            taken_until: The expiry that :meth:`take` returned.
            next_revision: That of the request.
            kept_s: Seconds after which the tool drops the request by itself.
        """
        while (lease := self.lease(key)).holder == holder and lease.expires_at == taken_until:
            now_s = self._now()
            pushed = replace(
                _counted(lease, now_s + min(self._resend_s, kept_s)),
                pushed_at=now_s,
                dropped_at=0.0 if kept_s == inf else now_s + kept_s,
                next_revision=next_revision,
            )
            if await self._write(key, pushed):
                return

    async def shorten(self, key: LeaseKey, holder: str, to_s: float) -> bool:
        """End the lease in at most ``to_s`` seconds, so that its holder is asked again; return whether that is new."""
        await self._read(key)  # another replica may have taken it a moment ago
        while self.lease(key).holder == holder and self._left_s(key) > to_s:
            if await self._write(key, _counted(self.lease(key), self._now() + to_s)):
                return True
        return False

    async def _write(self, key: LeaseKey, lease: Lease) -> bool:
        said = asdict(lease)
        del said["sequence"]
        subject, known = f"{PREFIX}.{key}", self.lease(key).sequence
        sequence = await retry_while_away(lambda: publish_over(self._js, subject, json.dumps(said).encode(), known))
        if sequence is None:
            await self._read(key)
            return False
        self._note(key, replace(lease, sequence=sequence))
        return True

    async def _read(self, key: LeaseKey) -> None:
        """Reload a lease from the stream, for instance after a failed write.

        Then another replica wrote first, our write succeeded but its acknowledgement was lost, or the lease is gone.
        """
        try:
            standing = await retry_while_away(lambda: self._js.get_last_msg(STREAM, f"{PREFIX}.{key}"))
        except NotFoundError:
            self.forget(key)
            return
        self.put(key, _lease(standing.data or b"", standing.seq or 0))  # older than ours if messages were lost


def _counted(lease: Lease, expires_at: float) -> Lease:
    """Return the lease with a fixed expiry and with its push counted, once."""
    pushes = lease.pushes if lease.counted else lease.pushes + 1
    return replace(lease, expires_at=expires_at, pushed_at=0.0, pushes=pushes, counted=True)


def _lease(data: bytes, sequence: int) -> Lease:
    """Read the lease in a message; what is none, such as an answer of the broker, is a lease that nobody holds."""
    try:
        said = _LEASE.validate_json(data)
    except ValidationError as error:
        log.warning("lease_unreadable", sequence=sequence, problem=str(error).partition("\n")[0])
        return Lease("", 0.0, sequence=sequence)
    return replace(said, sequence=sequence)
