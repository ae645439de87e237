"""Append to, replay and follow the event log of all runs, a NATS JetStream stream.

Each subject is written at most once: the broker rejects a second write, and its writer reads the event that is already
there and continues from it. State is a fold over the events of :meth:`EventLog.follow`, in stream order. There are no
durable consumers, because a service that restarts replays the log anyway, and acknowledgements would be a second source
of truth.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionReconnectingError, MaxPayloadError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from labelloop.domain.event_schema import shape_fault
from labelloop.errors import LimitExceeded, Unready, WrongState
from labelloop.eventlog.conditional_publish import ensure_replicas, ensure_stream, publish_once
from labelloop.eventlog.connection import jetstream
from labelloop.eventlog.ordered_consumer import follow_stream
from labelloop.eventlog.retry import is_undecided, retry_while_away
from labelloop.eventlog.rollback_guard import RollbackGuard
from labelloop.eventlog.stream_leaders import StreamLeaders
from labelloop.eventlog.subjects import EVERYTHING, PREFIX, STREAM, archived_subject, event_kind, subject_of
from labelloop.events.v1.events_pb2 import Event
from labelloop.observability import metrics, tracing
from labelloop.runtime.crash_points import crash_point

_BEHIND_TRIES = 200

log = structlog.get_logger()


class _NotThereYet(NatsError):
    """The leader that refused a write for another's is gone, and the new one still applies that: try again."""


@dataclass(frozen=True)
class Recorded:
    """One message of the event log.

    Attributes:
        event: The event; None if it cannot be read.
        sequence: Its sequence in the stream.
        ours: Whether the append that returned this wrote it.
        carrier: From :meth:`EventLog.follow`, trace headers of the span in which it was written; empty if untraced.
    """

    event: Event | None
    sequence: int
    ours: bool = False
    carrier: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def at(self) -> datetime:
        """When it was first recorded, by its writer's clock; imports keep it. Order is that of the stream."""
        return self.event.recorded_at.ToDatetime(UTC) if self.event else datetime.min.replace(tzinfo=UTC)


class EventLog:
    """Appends to, replays and follows the event log of all runs.

    Attributes:
        undecodable: How often an event could not be read; such events stay in the stream and are skipped.
        writable: Whether the broker took the last event that it was sent, or answered that another stands.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._js: JetStreamContext = jetstream(client)
        self.undecodable = 0
        self.writable = True
        self._rollback_guard = RollbackGuard(self._js, STREAM, StreamLeaders(client, STREAM))

    async def ensure_stream(self, replicas: int = 1) -> None:
        """Create the stream on ``replicas`` nodes of a cluster, or add replicas to an existing one that has fewer.

        Raises:
            WrongState: If the existing stream has settings that could lose events.
        """
        config = StreamConfig(
            name=STREAM,
            subjects=[EVERYTHING],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            num_replicas=replicas,
            deny_delete=True,  # but not deny_purge, which no update takes back: archived runs are purged
        )
        info = await retry_while_away(lambda: ensure_stream(self._js, config))
        standing = info.config
        limits = (standing.max_msgs, standing.max_bytes, standing.max_age)
        if standing.retention != RetentionPolicy.LIMITS or any(limit and limit > 0 for limit in limits):
            message = f"stream {STREAM} would forget events: it must have limits retention and no limit of its own"
            raise WrongState("STREAM_FORGETS", message, stream=STREAM)
        await ensure_replicas(self._js, standing, replicas)

    async def append_once(self, event: Event) -> Recorded:
        """Write ``event``, or read the event that its subject already has; wait while the broker is away.

        Sets ``recorded_at`` if it is not set.

        Raises:
            ValueError: If ``event`` is malformed.
            LimitExceeded: If it is larger than the broker's ``max_payload``.
            WrongState: If the message that its subject already has cannot be read.
        """
        kind = event_kind(event)
        if not event.HasField("recorded_at"):
            event.recorded_at.GetCurrentTime()
        if fault := shape_fault(event):
            raise ValueError(f"{kind} of round {event.round}: {fault}")
        subject, data = subject_of(event), event.SerializeToString(deterministic=True)
        crash_point(f"before append {kind}")
        recorded = await retry_while_away(lambda: self._append(event, subject, data))
        crash_point(f"after append {kind}")
        return recorded

    async def append_behind(self, event: Event, last: int) -> Recorded | None:
        """Write ``event`` if the newest event of its run is that at sequence ``last``, or read what its subject has.

        Returns:
            The event; None if the run has a newer one, and nothing was written.

        Raises:
            Unready: If so much is written into the log that none of many tries was the next event.
        """
        event.recorded_at.GetCurrentTime()
        subject, data = subject_of(event), event.SerializeToString(deterministic=True)
        crash_point(f"before append {event_kind(event)}")
        for _ in range(_BEHIND_TRIES):
            newest = await self.last_sequence()
            if await self._last_under(subject):
                standing = await retry_while_away(lambda: self._read_back(subject))
                return replace(standing, ours=standing.event == event)
            if await self.last_of_run(event.run_id) != last:
                return None
            if sequence := await self._write_as(newest + 1, subject, data):
                crash_point(f"after append {event_kind(event)}")
                return Recorded(event, sequence, ours=True)
        message = f"the log is too busy to write {subject} behind the newest event: try again when less is written"
        raise Unready("LOG_BUSY", message, retry_after_s=1, subject=subject)

    async def _write_as(self, sequence: int, subject: str, data: bytes) -> int | None:
        """Write a message as the next of the whole stream; None if another came before it."""
        expecting = {**tracing.headers(), "Nats-Expected-Last-Sequence": str(sequence - 1)}
        return await retry_while_away(lambda: publish_once(self._js, subject, data, expecting))

    async def _append(self, event: Event, subject: str, data: bytes) -> Recorded:
        if self._rollback_guard.suspect:
            await self._rollback_guard.check()
        try:
            if not self._client.is_connected:
                raise ConnectionReconnectingError  # otherwise the client would send it once it reconnects
            sequence = await publish_once(self._js, subject, data, tracing.headers())
        except MaxPayloadError as error:
            message = f"{subject} takes {len(data)} bytes, more than the broker's max_payload: raise that"
            raise LimitExceeded("EVENT_TOO_LARGE", message, subject=subject, size=len(data)) from error
        except Exception as error:
            metrics.APPEND_FAILURES.inc()
            if not is_undecided(error):  # an answer, which no broker gives that was cut off
                self._rollback_guard.suspect = True
                self.writable = False
            raise
        self.writable = True
        if sequence:
            return Recorded(event, sequence, ours=True)
        standing = await self._read_back(subject)
        ours = standing.event == event  # as after a write of which only the acknowledgement was lost
        metrics.APPENDS_LOST.inc(not ours)
        return replace(standing, ours=ours)

    async def _read_back(self, subject: str) -> Recorded:
        try:
            message = await self._js.get_last_msg(STREAM, subject)
        except NotFoundError as error:
            raise _NotThereYet(f"another was first under {subject}, and the leader has not got its event") from error
        assert message.seq is not None, "a message that stands has a sequence"
        try:
            return Recorded(_readable(subject, message.data or b""), message.seq)
        except ValueError as error:
            said = f"what stands under {subject}, at sequence {message.seq}, is no event of ours: {error}"
            raise WrongState("UNREADABLE_EVENT", said, subject=subject, sequence=message.seq) from error

    async def watch(self) -> None:
        """Watch the stream for rollbacks and stalls, forever; run it alongside the one :meth:`follow` of all events.

        Events that the broker holds back are requested again.

        Raises:
            LogRolledBack: If the broker took back an event that was read.
        """
        await self._rollback_guard.watch()

    async def last_sequence(self) -> int:
        """Return the sequence of the newest event; 0 if there is none."""
        return int((await retry_while_away(lambda: self._js.stream_info(STREAM))).state.last_seq)

    async def read_run(self, run_id: str) -> list[Recorded]:
        """Return the readable events that a run has now, in order; empty if there are none."""
        return [recorded async for recorded in self.read_on(run_id)]

    async def read_on(self, run_id: str, after: int = 0) -> AsyncGenerator[Recorded, None]:
        """Yield the readable events that a run has now, in order, from the first after sequence ``after``.

        Raises:
            Unready: If the run was archived meanwhile, so that events may be missing.
        """
        async with aclosing(self.read_all(run_id, after)) as standing:
            async for recorded in standing:
                if recorded.event:
                    yield recorded

    async def read_all(self, run_id: str, after: int = 0) -> AsyncGenerator[Recorded, None]:
        """Yield what :meth:`read_on` does, and unreadable events."""
        subject, last = f"{PREFIX}.{run_id}.>", await self.last_of_run(run_id)
        if last <= after:
            return
        async with aclosing(self.follow(subject, after)) as standing:
            async for recorded in standing:
                if recorded.sequence > last:
                    message = f"run {run_id!r} was archived while it was read: try again"
                    raise Unready("RUN_BEING_ARCHIVED", message, retry_after_s=1, run_id=run_id)
                yield recorded
                if recorded.sequence == last:
                    return

    async def last_of_run(self, run_id: str) -> int:
        """Return the sequence of the newest event of a run; 0 if there is none."""
        return await self._last_under(f"{PREFIX}.{run_id}.>")

    async def _last_under(self, subject: str) -> int:
        try:
            return int((await retry_while_away(lambda: self._js.get_last_msg(STREAM, subject))).seq or 0)
        except NotFoundError:
            return 0

    async def check_purge_allowed(self) -> None:
        """Raise WrongState if an earlier release made the stream, so that nothing is ever removed from it."""
        if (await retry_while_away(lambda: self._js.stream_info(STREAM))).config.deny_purge:
            message = (
                f"the stream {STREAM} was made by an earlier release and allows no purge: archived runs leave the "
                "services' memory, but not the stream. To make it smaller, export the runs to keep and import them "
                "into a new broker"
            )
            raise WrongState("STREAM_DENIES_PURGE", message, stream=STREAM)

    async def purge_archived(self, run_id: str, sequence: int) -> None:
        """Remove what stands of a run before its ``run_archived`` at ``sequence``. Safe to call at any time, and again.

        Raises:
            WrongState: If there is no ``run_archived``, or an earlier release made the stream, so that it allows none.
            RefusedByBroker: If the broker's permissions forbid it.
        """
        subject = archived_subject(f"{PREFIX}.{run_id}.x")
        if not 0 < sequence <= await self._last_under(subject):
            message = f"run {run_id!r} is not archived at sequence {sequence}: nothing of it was purged"
            raise WrongState("RUN_NOT_ARCHIVED", message, run_id=run_id)
        await self.check_purge_allowed()
        await retry_while_away(lambda: self._js.purge_stream(STREAM, seq=sequence, subject=f"{PREFIX}.{run_id}.>"))

    async def follow(self, subject: str = EVERYTHING, after: int = 0) -> AsyncGenerator[Recorded, None]:
        """Yield all events under ``subject`` after sequence ``after``, in order, without gap or repeat, forever."""
        async for message in follow_stream(self._client, self._js, STREAM, subject, after, self._rollback_guard):
            sequence, carrier = message.metadata.sequence.stream, tracing.carrier(message.headers)
            yield Recorded(self._decode(message), sequence, carrier=carrier)

    def _decode(self, message: Msg) -> Event | None:
        try:
            return _readable(message.subject, message.data)
        except ValueError as error:
            self.undecodable += 1
            metrics.UNREADABLE.inc()
            place = message.metadata.sequence.stream
            log.error("unreadable_event_skipped", sequence=place, subject=message.subject, error=str(error))
            return None


def _readable(subject: str, data: bytes) -> Event:
    """Parse the event in ``data``; raise ValueError if it is not a valid event that belongs under ``subject``."""
    try:
        event = Event.FromString(data)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    if subject_of(event) != subject:
        raise ValueError(f"it belongs under {subject_of(event)}")
    if fault := shape_fault(event):
        raise ValueError(fault)
    return event
