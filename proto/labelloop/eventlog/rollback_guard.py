"""Detect that the broker took back events which a service has already read.

A node that is cut off from its cluster may deliver events that the other nodes never had. Once it rejoins, these events
are gone, and others have taken their place (seen with nats-server 2.9.10). A service that has folded such an event must
neither write events that follow from it nor read on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Protocol

import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from labelloop.errors import LogRolledBack
from labelloop.eventlog.retry import retry_while_away
from labelloop.eventlog.rollback_verdict import Verdict
from labelloop.eventlog.strays import first_of_ours, is_no_answer
from labelloop.eventlog.stream_leaders import Answers, Held
from labelloop.eventlog.subjects import archived_subject, ending_subjects, run_of

_KEPT = 1_000  # messages; a node notices within seconds that it is cut off
_LOOK_EVERY_S = 2.0
_LOOKS_BEHIND = 2

log = structlog.get_logger()


class Guard(Protocol):
    """What a reader of a stream tells about its messages and interruptions, and asks."""

    suspect: bool

    def record(self, message: Msg) -> None:
        """Take note of a message that was read."""
        ...

    def pop_stalled(self) -> bool:
        """Return whether newer messages do not arrive; False until that is found again."""
        ...

    async def check(self) -> None:
        """Raise LogRolledBack if a message that was read was taken back."""
        ...


class Leaders(Protocol):
    """All nodes that believe to lead a stream."""

    async def ask(self, sequence: int) -> Answers:
        """Return what they hold under ``sequence``."""
        ...


class RollbackGuard:
    """Compares the messages that were read last with those that the stream holds now.

    Attributes:
        suspect: Whether something happened since the last check that may have taken messages back.
    """

    def __init__(self, js: JetStreamContext, stream: str, leaders: Leaders) -> None:
        self._js, self._stream, self._leaders = js, stream, leaders
        self._read: deque[tuple[int, str, bytes]] = deque(maxlen=_KEPT)
        self._newest = 0
        self.suspect = False
        self._stalled = False
        self._one_at_a_time = asyncio.Lock()

    def record(self, message: Msg) -> None:
        sequence = message.metadata.sequence.stream
        self._newest = max(self._newest, sequence)
        self._read.append((sequence, message.subject, message.data))

    def remember(self, sequence: int, subject: str, data: bytes) -> None:
        """Take note of a message that was read before this process started, and of none before it.

        Whatever takes back a message before it takes it back as well.
        """
        self._newest = max(self._newest, sequence)
        self._read.append((sequence, subject, data))

    async def check(self) -> None:
        """Compare the messages with the stream if ``suspect``; the broker's errors pass through while it is away.

        Raises:
            LogRolledBack: If a message that was read is gone, or another has taken its place.
        """
        async with self._one_at_a_time:
            if self.suspect:
                await self._compare()
                self.suspect = False

    async def _compare(self) -> None:
        for sequence, subject, data in reversed(self._read.copy()):
            read = (subject, data)
            standing = await self._standing(sequence)
            if standing is None and await self._was_purged(sequence, subject):
                continue
            if standing != read and await self._was_taken_back(sequence, read):
                log.error("log_rolled_back", action="restarting", sequence=sequence)
                raise LogRolledBack(f"event {sequence} of the log is not what it was")

    async def _standing(self, sequence: int) -> Held:
        try:
            message = await self._js.get_msg(self._stream, sequence)
        except NotFoundError:
            return None
        return message.subject or "", message.data or b""

    async def _was_purged(self, sequence: int, subject: str) -> bool:
        """Return whether the message may be gone: its run was archived after it, or its id can never have a run."""
        run_id = run_of(subject)
        if await self._stands(archived_subject(run_id), sequence):
            return True
        found = [await self._stands(each) for each in ending_subjects(run_id) if each != subject]
        return any(found)

    async def _stands(self, subject: str, after: int = 0) -> bool:
        return bool(await first_of_ours(self._js, self._stream, subject, partial(_is_behind, after)))

    async def _was_taken_back(self, sequence: int, read: Held) -> bool:
        """Ask all leaders until their answers decide; a single answer may be that of a node which is behind."""
        log.info("log_rollback_suspected", sequence=sequence)
        verdict, clock = Verdict(sequence, read), asyncio.get_running_loop().time
        while True:  # each question takes a second
            taken_back = verdict.weigh(await self._leaders.ask(sequence), clock())
            if taken_back is not None:
                return taken_back

    def pop_stalled(self) -> bool:
        """Return whether :meth:`watch` found, since the last call, newer messages that do not arrive."""
        stalled, self._stalled = self._stalled, False
        return stalled

    async def watch(self) -> None:
        """Check for rollbacks at each change of the stream's leader, and detect stalls, forever.

        Nothing is ever taken back without a change of leader. A node that fell behind may keep serving its readers the
        messages it has, and report that it is healthy. If the stream is ahead of what was read and two looks in a row
        find nothing new, :meth:`pop_stalled` tells the reader to create a new consumer.

        Raises:
            LogRolledBack: As :meth:`check` does.
        """
        leader, behind_at, looks = "", 0, 0
        while True:
            info = await retry_while_away(lambda: self._js.stream_info(self._stream))
            now = (info.cluster.leader if info.cluster else "") or leader
            if leader and now != leader:
                self.suspect = True
                await retry_while_away(self.check)
            leader = now
            looks = looks + 1 if info.state.last_seq > self._newest == behind_at else 0
            behind_at = self._newest
            if looks == _LOOKS_BEHIND:
                self._stalled, looks = True, 0
            await asyncio.sleep(_LOOK_EVERY_S)


class PassingReader:
    """What a guard is told by a read beside the follower of all messages: interruptions, and no messages.

    A guard remembers what was read last. A read of many old messages would make it forget the newest ones, which alone
    may be taken back, and would hide that these do not arrive at the follower.
    """

    def __init__(self, guard: RollbackGuard) -> None:
        self._guard = guard

    @property
    def suspect(self) -> bool:
        return self._guard.suspect

    @suspect.setter
    def suspect(self, suspect: bool) -> None:
        self._guard.suspect = suspect

    def record(self, message: Msg) -> None:
        """Do nothing."""

    def pop_stalled(self) -> bool:
        """Return False: that is for the follower to find."""
        return False

    async def check(self) -> None:
        """Check the messages of the follower."""
        await self._guard.check()


def _is_behind(sequence: int, message: RawStreamMsg) -> bool:
    return is_no_answer(message) and sequence < (message.seq or 0)


class UnguardedLog(RollbackGuard):
    """A guard that never reports a rollback, for streams that drop old messages: a missing one proves nothing."""

    def __init__(self, js: JetStreamContext, stream: str) -> None:
        super().__init__(js, stream, _Nobody())

    async def _compare(self) -> None:
        return


class _Nobody:
    async def ask(self, sequence: int) -> Answers:
        raise AssertionError("nothing is compared")
