"""Who holds which request for how long, so that nobody else is given it meanwhile.

Leases lie in a stream of their own, the newest word on each under its subject, written by compare-and-swap: of two that
take the same, one does. They are hints: where they are lost, two people may label the same sample, of whom the log
takes one.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from labelloop.wire.basis import Hints
from labelloop.wire.broker import jetstream
from labelloop.wire.following import follow_stream
from labelloop.wire.once import ensure_replicas, ensure_stream, publish_over
from labelloop.wire.patience import patiently
from nats.aio.client import Client
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError

STREAM, PREFIX = "LABELLOOP_LEASES", "labelloop-leases.v1"
_KEPT_S = 14 * 24 * 3600


@dataclass(frozen=True)
class Lease:
    """``sequence`` is that of the word that says so; ``pushes`` counts how often it was put into a tool."""

    holder: str
    expires_at: float
    pushes: int = 0
    sequence: int = 0


_NONE = Lease("", 0.0)


class Leases:
    """``now`` gives seconds since the epoch. Keys are parts of subjects: letters, digits, ``-``, ``_``, dots."""

    def __init__(self, client: Client, now: Callable[[], float] = time.time) -> None:
        self._client, self._js, self._now = client, jetstream(client), now
        self._held: OrderedDict[str, Lease] = OrderedDict()  # heard of longest ago first
        self._heard_at: dict[str, float] = {}
        self._keys: dict[str, dict[str, None]] = {}  # by holder: leases that ended long ago are many
        self._basis = Hints(self._js, STREAM)

    async def ensure_stream(self, replicas: int = 1) -> None:
        config = StreamConfig(
            name=STREAM, subjects=[f"{PREFIX}.>"], max_msgs_per_subject=1, max_age=_KEPT_S, num_replicas=replicas
        )
        info = await patiently(lambda: ensure_stream(self._js, config))
        await ensure_replicas(self._js, info.config, replicas)

    async def follow(self) -> None:
        """Hear of the leases of others, for ever."""
        async for message in follow_stream(self._client, self._js, STREAM, f"{PREFIX}.>", 0, self._basis):
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
            self._forget(oldest)  # the stream has by now

    def _forget(self, key: str) -> None:
        lease = self._held.pop(key, _NONE)
        self._heard_at.pop(key, None)
        self._keys.get(lease.holder, {}).pop(key, None)

    def holder(self, key: str) -> str:
        """Who holds it now, as far as is known here; empty where nobody does."""
        lease = self._held.get(key, _NONE)
        return lease.holder if lease.expires_at > self._now() else ""

    def held_by(self, holder: str, prefix: str) -> list[str]:
        """Keys that begin with ``prefix`` and that ``holder`` holds, longest held first."""
        keys = self._keys.get(holder, {})
        found = [key for key in keys if key.startswith(prefix) and self.holder(key) == holder]
        return sorted(found, key=lambda key: self._held[key].sequence)

    async def take(self, key: str, holder: str, for_s: float) -> float:
        """When the lease that ``holder`` has now expires; 0.0 where another holds it. One's own is renewed."""
        if self.holder(key) not in ("", holder):
            return 0.0
        expires_at = self._now() + for_s
        return expires_at if await self._write(key, Lease(holder, expires_at, self.pushes(key))) else 0.0

    async def release(self, key: str, holder: str) -> bool:
        """Whether it was theirs until now."""
        return self.holder(key) == holder and await self._write(key, Lease("", 0.0, self.pushes(key)))

    def pushes(self, key: str) -> int:
        """How often it was put into a tool, as far as is known."""
        return self._held.get(key, _NONE).pushes

    async def confirm(self, key: str, holder: str, taken_until: float, for_s: float) -> None:
        """What the lease was taken for is in the tool: renew it, but where somebody shortened it meanwhile."""
        while (lease := self._held.get(key, _NONE)).holder == holder and lease.expires_at == taken_until:
            if await self._write(key, Lease(holder, self._now() + for_s, lease.pushes + 1)):
                return

    async def shorten(self, key: str, holder: str, to_s: float) -> None:
        """What ``holder`` was given is done with, in vain: the lease ends in ``to_s``, if not sooner."""
        await self._read(key)  # another oracle may have taken it a moment ago
        while (lease := self._held.get(key, _NONE)).holder == holder and lease.expires_at > self._now() + to_s:
            if await self._write(key, Lease(holder, self._now() + to_s, lease.pushes + 1)):
                return

    def ends_in_s(self, holder: str) -> float:
        """Until the first of ``holder``'s leases ends; infinite where there is none."""
        now = self._now()
        ends = (self._held[key].expires_at - now for key in self._keys.get(holder, ()))
        return min((left_s for left_s in ends if left_s > 0), default=inf)

    async def _write(self, key: str, lease: Lease) -> bool:
        subject = f"{PREFIX}.{key}"
        data = json.dumps({"holder": lease.holder, "expires_at": lease.expires_at, "pushes": lease.pushes}).encode()
        known = self._held.get(key, _NONE).sequence
        sequence = await patiently(lambda: publish_over(self._js, subject, data, known))
        if sequence is None:
            await self._read(key)
            return False
        self._note(subject, data, sequence)
        return True

    async def _read(self, key: str) -> None:
        """Somebody else wrote, or ours came through and only the answer to it was lost, or the lease was forgotten."""
        try:
            standing = await patiently(lambda: self._js.get_last_msg(STREAM, f"{PREFIX}.{key}"))
        except NotFoundError:
            self._forget(key)
            return
        self._set(key, _lease(standing.data or b"", standing.seq or 0))  # older than ours where words were lost


def _lease(data: bytes, sequence: int) -> Lease:
    said = json.loads(data)
    return Lease(said["holder"], said["expires_at"], said.get("pushes", 0), sequence)
