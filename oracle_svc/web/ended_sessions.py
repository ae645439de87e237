"""Remember which sessions were ended before their time, on all oracles.

Ended sessions are kept in the stream of leases, for as long as a session lasts, under subjects of their own. Each
oracle follows them, so all refuse an ended session within a second, and again after a restart.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import structlog
from labelloop.errors import Unready
from labelloop.eventlog.connection import jetstream
from labelloop.eventlog.ordered_consumer import follow_stream
from labelloop.eventlog.retry import retry_while_away
from labelloop.eventlog.rollback_guard import UnguardedLog
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from oracle_svc.leases import PREFIX, STREAM
from oracle_svc.web.session import LIFETIME_S, Session

ENDED = f"{PREFIX}.session-ended"
_REMEMBERED_MAX = 100_000  # 20 MB; of more, those that end first by themselves are forgotten
_WITHIN_S = 5.0
_ID = re.compile("[0-9a-f]{32}")

log = structlog.get_logger()


class EndedSessions:
    """The ended sessions that this process knows of. ``now`` gives seconds since the epoch."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._until: OrderedDict[str, float] = OrderedDict()  # in the order in which they ended

    def __contains__(self, session: Session) -> bool:
        return session.id in self._until

    async def end(self, session: Session) -> None:
        """End a session before its time."""
        self._note(session.id)

    def _note(self, session_id: str) -> None:
        """Remember an ended session until it would have ended by itself."""
        self._until.setdefault(session_id, self._now() + LIFETIME_S)
        while len(self._until) > _REMEMBERED_MAX or next(iter(self._until.values())) < self._now():
            self._until.popitem(last=False)


class SharedEndedSessions(EndedSessions):
    """The ended sessions of all oracles at one broker."""

    def __init__(self, client: Client, now: Callable[[], float] = time.time) -> None:
        super().__init__(now)
        self._client, self._js = client, jetstream(client)
        self._rollback_guard = UnguardedLog(self._js, STREAM)
        self._sequence, self._heard = 0, asyncio.Event()

    async def follow(self) -> None:
        """Track the sessions that other oracles end, until cancelled."""
        async for message in follow_stream(self._client, self._js, STREAM, f"{ENDED}.*", 0, self._rollback_guard):
            session_id = message.subject.rpartition(".")[2]
            if _ID.fullmatch(session_id):
                self._note(session_id)
            else:
                log.warning("ended_session_ignored", subject=message.subject)
            self._sequence = message.metadata.sequence.stream
            self._heard.set()

    async def caught_up(self) -> None:
        """Return once every session that has been ended until now is known; :meth:`follow` must run."""
        try:
            last = await retry_while_away(partial(self._js.get_last_msg, STREAM, f"{ENDED}.*"))
        except NotFoundError:
            return
        while self._sequence < (last.seq or 0):
            self._heard.clear()
            await self._heard.wait()

    async def end(self, session: Session) -> None:
        """End a session on all oracles, and return once that is durable.

        Raises:
            Unready: The broker has not stored it in time. Other oracles may still take the session.
        """
        self._note(session.id)
        said = json.dumps({"until": session.until}).encode()
        try:
            async with asyncio.timeout(_WITHIN_S):
                await retry_while_away(lambda: self._js.publish(f"{ENDED}.{session.id}", said))
        except TimeoutError as error:
            message = (
                "the session has ended here, but the broker does not answer, so others do not know: sign out again"
            )
            raise Unready("SIGN_OUT_NOT_STORED", message, retry_after_s=1.0) from error
