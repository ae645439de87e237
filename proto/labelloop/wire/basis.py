"""Whether what a service has read of the log still stands.

A node of a cluster that was cut off may have handed out events which the others never had: when they find together
again, these are gone, and others stand in their place (seen with nats-server 2.9.10). A service that has folded such an
event must not write what follows from it, nor go on reading.
"""

from __future__ import annotations

import asyncio
from collections import deque

import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from labelloop.wire.patience import patiently

_KEPT = 1_000  # of the newest messages; a node notices within seconds that it is cut off
_LOOK_EVERY_S = 2.0
_LOOKS_BEHIND = 2

log = structlog.get_logger()


class LogRolledBack(BaseException):
    """The service ends, and starts anew from the log as it stands: no handler of mere errors is to get in the way."""


class Basis:
    """The newest messages that were read; ``in_doubt`` where something happened that may have taken some back."""

    def __init__(self, js: JetStreamContext, stream: str) -> None:
        self._js, self._stream = js, stream
        self._read: deque[tuple[int, str, bytes]] = deque(maxlen=_KEPT)
        self._newest = 0
        self.in_doubt = False
        self._stalled = False
        self._one_at_a_time = asyncio.Lock()

    def note(self, message: Msg) -> None:
        sequence = message.metadata.sequence.stream
        self._newest = max(self._newest, sequence)
        self._read.append((sequence, message.subject, message.data))

    async def settle(self) -> None:
        """Where in doubt: LogRolledBack if something else stands there now, or nothing; the broker's errors while it is
        away."""
        async with self._one_at_a_time:
            if self.in_doubt:
                await self._check()
                self.in_doubt = False

    async def _check(self) -> None:
        for sequence, subject, data in reversed(self._read.copy()):
            if await self._standing(sequence) != (subject, data):
                log.error("the broker took back an event that was read; starting anew", sequence=sequence)
                raise LogRolledBack(f"event {sequence} of the log is not what it was")

    async def _standing(self, sequence: int) -> tuple[str | None, bytes] | None:
        try:
            message = await self._js.get_msg(self._stream, sequence)
        except NotFoundError:
            return None
        return message.subject, message.data or b""

    def take_stalled(self) -> bool:
        """Whether there are newer messages that do not come; once for each time that this was found."""
        stalled, self._stalled = self._stalled, False
        return stalled

    async def watch(self) -> None:
        """For ever: a new leader of the stream's nodes raises doubts, which are settled; nothing is ever taken back
        without one. LogRolledBack as :meth:`settle` has it.

        A node that fell behind may go on serving its readers with what it has, and say that it is well: where the
        stream is ahead, and nothing comes from one look to the next but one, its reader is told to ask anew.
        """
        leader, behind_at, looks = "", 0, 0
        while True:
            info = await patiently(lambda: self._js.stream_info(self._stream))
            now = (info.cluster.leader if info.cluster else "") or leader
            if leader and now != leader:
                self.in_doubt = True
                await patiently(self.settle)
            leader = now
            looks = looks + 1 if info.state.last_seq > self._newest == behind_at else 0
            behind_at = self._newest
            if looks == _LOOKS_BEHIND:
                self._stalled, looks = True, 0
            await asyncio.sleep(_LOOK_EVERY_S)


class Hints(Basis):
    """Of a stream whose messages make room for others: that what was read stands no more says nothing."""

    async def _check(self) -> None:
        return
