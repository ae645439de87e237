"""Lease requests to annotators and tools, so that nobody else is given them meanwhile.

Leases are kept in a stream of their own, the newest state of each under its subject, written by compare-and-swap: of
two concurrent claims one succeeds. They are hints: if they are lost, two annotators may label the same sample, and the
event log records one of the labels.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from labelloop.eventlog.conditional_publish import ensure_replicas, ensure_stream, publish_over
from labelloop.eventlog.connection import jetstream
from labelloop.eventlog.ordered_consumer import follow_stream
from labelloop.eventlog.retry import retry_while_away
from labelloop.eventlog.rollback_guard import UnguardedLog
from nats.aio.client import Client
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError

STREAM, PREFIX = "LABELLOOP_LEASES", "labelloop-leases.v1"
_KEPT_S = 14 * 24 * 3600


@dataclass(frozen=True)
class Lease:
    """The lease of one request.

    Attributes:
        holder: Who holds it; empty once released.
        expires_at: Seconds since the epoch.
        pushes: Attempt counter: raised once the tool has taken the request, and when its result was refused.
        sequence: Stream sequence of the message that states the lease.
    """

    holder: str
    expires_at: float
    pushes: int = 0
    sequence: int = 0


_NONE = Lease("", 0.0)


class Leases:
    """All leases, followed from the stream.

    ``now`` gives seconds since the epoch. Keys are parts of subjects: letters, digits, ``-``, ``_``, dots.
    """

    def __init__(self, client: Client, now: Callable[[], float] = time.time) -> None:
        self._client, self._js, self._now = client, jetstream(client), now
        self._held: OrderedDict[str, Lease] = OrderedDict()  # least recently updated first
        self._heard_at: dict[str, float] = {}
        self._keys: dict[str, dict[str, None]] = {}  # by holder: most leases ended long ago
        self._rollback_guard = UnguardedLog(self._js, STREAM)

    async def ensure_stream(self, replicas: int = 1) -> None:
        config = StreamConfig(
            name=STREAM, subjects=[f"{PREFIX}.>"], max_msgs_per_subject=1, max_age=_KEPT_S, num_replicas=replicas
        )
        info = await retry_while_away(lambda: ensure_stream(self._js, config))
        await ensure_replicas(self._js, info.config, replicas)

    async def follow(self) -> None:
        """Track the leases that other replicas write, until cancelled."""
        async for message in follow_stream(self._client, self._js, STREAM, f"{PREFIX}.>", 0, self._rollback_guard):
            self._note(message.subject, message.data, message.metadata.sequence.stream)

    def _note(self, subject: str, data: bytes, sequence: int) -> None:
        key = subject.removeprefix(f"{PREFIX}.")
        if sequence > self._held.get(key, _NONE).sequence:
            self._set(key, _lease(data, sequence))

    def _set(self, key: str, lease: Lease) -> None:
        self._forget(key)
        self._held[key], self._heard_at[key] = lease, self._now()
        if lease.holder:
            self._keys.setdefault(lease.holder, {})[key] = None
        while self._heard_at[oldest := next(iter(self._held))] < self._now() - _KEPT_S:
            self._forget(oldest)  # as the stream has by now

    def _forget(self, key: str) -> None:
        lease = self._held.pop(key, _NONE)
        self._heard_at.pop(key, None)
        self._keys.get(lease.holder, {}).pop(key, None)

    def holder(self, key: str) -> str:
        """Return who holds the lease now, as far as this replica knows; empty if nobody does."""
        lease = self._held.get(key, _NONE)
        return lease.holder if lease.expires_at > self._now() else ""

    def held_by(self, holder: str, prefix: str) -> list[str]:
        """Return the keys that begin with ``prefix`` and that ``holder`` holds, least recently renewed first."""
        keys = self._keys.get(holder, {})
        found = [key for key in keys if key.startswith(prefix) and self.holder(key) == holder]
        return sorted(found, key=lambda key: self._held[key].sequence)

    async def take(self, key: str, holder: str, for_s: float) -> float:
        """Take the lease for ``for_s`` seconds, or renew the holder's own.

        Returns:
            When it expires, in seconds since the epoch; 0.0 if somebody else holds it or took it first.
        """
        if self.holder(key) not in ("", holder):
            return 0.0
        expires_at = self._now() + for_s
        return expires_at if await self._write(key, Lease(holder, expires_at, self.pushes(key))) else 0.0

    async def release(self, key: str, holder: str) -> bool:
        """Release the lease; return whether ``holder`` held it until now."""
        return self.holder(key) == holder and await self._write(key, Lease("", 0.0, self.pushes(key)))

    def pushes(self, key: str) -> int:
        """Return the attempt counter of the lease, as far as this replica knows."""
        return self._held.get(key, _NONE).pushes

    async def confirm(self, key: str, holder: str, taken_until: float, for_s: float) -> None:
        """Renew a lease for ``for_s`` seconds once its request is in the tool, unless it was shortened meanwhile.

        ``taken_until`` is the expiry that :meth:`take` returned.
        """
        while (lease := self._held.get(key, _NONE)).holder == holder and lease.expires_at == taken_until:
            if await self._write(key, Lease(holder, self._now() + for_s, lease.pushes + 1)):
                return

    async def shorten(self, key: str, holder: str, to_s: float) -> None:
        """End the lease in at most ``to_s`` seconds, because the holder's result was refused."""
        await self._read(key)  # another replica may have taken it a moment ago
        while (lease := self._held.get(key, _NONE)).holder == holder and lease.expires_at > self._now() + to_s:
            if await self._write(key, Lease(holder, self._now() + to_s, lease.pushes + 1)):
                return

    def ends_in_s(self, holder: str) -> float:
        """Return seconds until the first of ``holder``'s leases ends; infinity if there is none."""
        now = self._now()
        ends = (self._held[key].expires_at - now for key in self._keys.get(holder, ()))
        return min((left_s for left_s in ends if left_s > 0), default=inf)

    async def _write(self, key: str, lease: Lease) -> bool:
        subject = f"{PREFIX}.{key}"
        data = json.dumps({"holder": lease.holder, "expires_at": lease.expires_at, "pushes": lease.pushes}).encode()
        known = self._held.get(key, _NONE).sequence
        sequence = await retry_while_away(lambda: publish_over(self._js, subject, data, known))
        if sequence is None:
            await self._read(key)
            return False
        self._note(subject, data, sequence)
        return True

    async def _read(self, key: str) -> None:
        """Reload a lease from the stream, for instance after a failed write.

        Then another replica wrote first, our write succeeded but its acknowledgement was lost, or the lease is gone.
        """
        try:
            standing = await retry_while_away(lambda: self._js.get_last_msg(STREAM, f"{PREFIX}.{key}"))
        except NotFoundError:
            self._forget(key)
            return
        self._set(key, _lease(standing.data or b"", standing.seq or 0))  # older than ours if messages were lost


def _lease(data: bytes, sequence: int) -> Lease:
    said = json.loads(data)
    return Lease(said["holder"], said["expires_at"], said.get("pushes", 0), sequence)
