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
from functools import partial

import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionReconnectingError, MaxPayloadError
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from labelloop.domain.event_schema import shape_fault
from labelloop.errors import LimitExceeded, Unready, WrongState
from labelloop.eventlog.conditional_publish import publish_once, publish_over
from labelloop.eventlog.connection import jetstream
from labelloop.eventlog.log_position import position_at
from labelloop.eventlog.ordered_consumer import follow_stream
from labelloop.eventlog.retry import is_undecided, retry_while_away
from labelloop.eventlog.rollback_guard import Guard, PassingReader, RollbackGuard
from labelloop.eventlog.strays import NotThereYet, first_of_ours, is_answer, is_no_answer, newest
from labelloop.eventlog.stream_leaders import StreamLeaders
from labelloop.eventlog.stream_setup import wait_for_stream
from labelloop.eventlog.streams import events
from labelloop.eventlog.subjects import (
    EVERYTHING,
    PREFIX,
    STREAM,
    ending_subjects,
    event_kind,
    subject_of,
    void_subjects,
)
from labelloop.events.v1.events_pb2 import Event
from labelloop.observability import metrics, tracing
from labelloop.runtime.crash_points import crash_point
from labelloop.snapshots.v1.snapshots_pb2 import LogPosition

_BEHIND_TRIES = 200
_HEADER_BYTES = 1_024  # the expected sequence and the headers of a trace
_NO_SEQUENCE = 2**62  # that no message has

log = structlog.get_logger()


@dataclass(frozen=True)
class Recorded:
    """One message of the event log.

    Attributes:
        event: The event; None if it cannot be read.
        sequence: Its sequence in the stream.
        ours: Whether the append that returned this wrote it.
        carrier: From :meth:`EventLog.follow`, trace headers of the span in which it was written; empty if untraced.
        data: Its bytes in the stream.
    """

    event: Event | None
    sequence: int
    ours: bool = False
    carrier: Mapping[str, str] = field(default_factory=dict, compare=False)
    data: bytes = field(default=b"", compare=False, repr=False)

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

        Where only the broker's operator may do so, this waits until the stream is there.

        Raises:
            WrongState: If the existing stream has settings by which events could be lost or forged.
        """
        await wait_for_stream(self._client, events(replicas))

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
            newest_of_all = await self.last_sequence()
            if standing := await retry_while_away(lambda: first_of_ours(self._js, STREAM, subject, is_no_answer)):
                recorded = _recorded(subject, standing)
                return replace(recorded, ours=recorded.event == event)
            if await self.newest(event.run_id) != last:
                return None
            if sequence := await self._write_as(newest_of_all + 1, subject, data):
                crash_point(f"after append {event_kind(event)}")
                return Recorded(event, sequence, ours=True, data=data)
        message = f"the log is too busy to write {subject} behind the newest event: try again when less is written"
        raise Unready("LOG_BUSY", message, retry_after_s=1, subject=subject)

    async def _write_as(self, sequence: int, subject: str, data: bytes) -> int | None:
        """Write a message as the next of the whole stream; None if another came before it."""
        strays = await self._last_under(subject)
        expecting = {**tracing.headers(), "Nats-Expected-Last-Sequence": str(sequence - 1)}
        return await retry_while_away(lambda: publish_over(self._js, subject, data, strays, expecting))

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
            return Recorded(event, sequence, ours=True, data=data)
        standing = await self._stand(event, subject, data)
        ours = standing.ours or standing.event == event  # as after a write of which only the acknowledgement was lost
        metrics.APPENDS_LOST.inc(not ours)
        return replace(standing, ours=ours)

    async def _stand(self, event: Event, subject: str, data: bytes) -> Recorded:
        """Return the event that a subject has; write ``event`` if only answers of the broker stand there."""
        last = await newest(self._js, STREAM, subject)
        if not is_answer(last.data):
            return _recorded(subject, last)
        if first := await first_of_ours(self._js, STREAM, subject, is_no_answer):
            return _recorded(subject, first)
        sequence = await publish_over(self._js, subject, data, last.seq or 0, tracing.headers())
        if sequence is None:
            raise NotThereYet(f"another wrote under {subject} at the same time")
        log.warning("event_written_behind_strays", subject=subject, sequence=sequence)
        return Recorded(event, sequence, ours=True, data=data)

    async def watch(self) -> None:
        """Watch the stream for rollbacks and stalls, forever; run it alongside the one :meth:`follow` of all events.

        Events that the broker holds back are requested again.

        Raises:
            LogRolledBack: If the broker took back an event that was read.
        """
        await self._rollback_guard.watch()

    @property
    def event_bytes_max(self) -> int:
        """How many bytes an event may have: what the broker takes in one message, less its headers."""
        return self._client.max_payload - _HEADER_BYTES

    async def check_may_append(self, subject: str) -> None:
        """Check that the broker lets this client write under ``subject``, without writing anything.

        Raises:
            NotAllowed: If it does not.
        """
        await retry_while_away(lambda: publish_over(self._js, subject, b"", _NO_SEQUENCE))

    async def newest(self, run_id: str) -> int:
        """Return the sequence of the newest message of a run; 0 if there is none."""
        return await self._last_under(f"{PREFIX}.{run_id}.>")

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
        last = await self.newest(run_id)
        if last <= after:
            return
        async with aclosing(self.follow(f"{PREFIX}.{run_id}.>", after)) as standing:
            async for recorded in standing:
                if recorded.sequence > last:
                    message = f"run {run_id!r} was archived while it was read: try again"
                    raise Unready("RUN_BEING_ARCHIVED", message, retry_after_s=1, run_id=run_id)
                yield recorded
                if recorded.sequence == last:
                    return

    async def started_runs(self) -> frozenset[str]:
        """Return the ids of the runs whose ``run_started`` stands."""
        subjects = f"{PREFIX}.*.0.run_started"
        info = await retry_while_away(lambda: self._js.stream_info(STREAM, subjects_filter=subjects))
        standing = info.state.subjects or {}
        return frozenset(subject.removeprefix(f"{PREFIX}.").partition(".")[0] for subject in standing)

    async def created(self) -> str:
        """Return when the stream was made, which tells it from others."""
        return str((await retry_while_away(lambda: self._js.stream_info(STREAM))).created)

    async def position(self, recorded: Recorded) -> LogPosition | None:
        """Return by what it can be told later that the log still holds ``recorded``; None if it does not any more."""
        position = await retry_while_away(lambda: position_at(self._js, STREAM, recorded.sequence))
        return position if position and position.data == recorded.data else None

    async def go_on_from(self, position: LogPosition) -> bool:
        """Return whether the log still holds what it held at ``position``, and remember that it must."""
        if await retry_while_away(lambda: position_at(self._js, STREAM, position.sequence)) != position:
            return False
        self._rollback_guard.remember(position.sequence, position.subject, position.data)
        return True

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
        if not await self._is_archived_at(run_id, sequence):
            message = f"run {run_id!r} is not archived at sequence {sequence}: nothing of it was purged"
            raise WrongState("RUN_NOT_ARCHIVED", message, run_id=run_id)
        await self.check_purge_allowed()
        await retry_while_away(lambda: self._js.purge_stream(STREAM, seq=sequence, subject=f"{PREFIX}.{run_id}.>"))

    async def purge_void(self, run_id: str) -> None:
        """Remove the events of an id that can never have a run, except for the events that say so.

        The newest event of all stays for now, whatever it is, since readers wait for it. Safe to call again.

        Raises:
            WrongState: If no run of that id was deleted and no import of it given up, or the stream allows no purge.
            RefusedByBroker: If the broker's permissions forbid it.
        """
        if not [True for subject in ending_subjects(run_id) if await self._last_under(subject)]:
            message = f"no run {run_id!r} was deleted, and no import of it given up: nothing of it was purged"
            raise WrongState("RUN_NOT_DELETED", message, run_id=run_id)
        await self.check_purge_allowed()
        last = await self.last_sequence()
        for subject in void_subjects(run_id):
            await retry_while_away(partial(self._js.purge_stream, STREAM, seq=last, subject=subject))

    async def _is_archived_at(self, run_id: str, sequence: int) -> bool:
        try:
            message = await retry_while_away(lambda: self._js.get_msg(STREAM, sequence))
            event = _readable(message.subject or "", message.data or b"")
        except (NotFoundError, ValueError):
            return False
        return event.run_id == run_id and event.HasField("run_archived")

    async def follow(self, subject: str = EVERYTHING, after: int = 0) -> AsyncGenerator[Recorded, None]:
        """Yield all events under ``subject`` after sequence ``after``, in order, without gap or repeat, forever.

        Only what a follower of everything reads is checked for rollbacks.
        """
        guard: Guard = self._rollback_guard if subject == EVERYTHING else PassingReader(self._rollback_guard)
        async for message in follow_stream(self._client, self._js, STREAM, subject, after, guard):
            sequence, carrier = message.metadata.sequence.stream, tracing.carrier(message.headers)
            yield Recorded(self._decode(message), sequence, carrier=carrier, data=message.data)

    def _decode(self, message: Msg) -> Event | None:
        try:
            return _readable(message.subject, message.data)
        except ValueError as error:
            self.undecodable += 1
            metrics.UNREADABLE.inc()
            place = message.metadata.sequence.stream
            log.error("unreadable_event_skipped", sequence=place, subject=message.subject, error=str(error))
            return None


def _recorded(subject: str, message: RawStreamMsg) -> Recorded:
    assert message.seq is not None, "a message that stands has a sequence"
    data = message.data or b""
    try:
        return Recorded(_readable(subject, data), message.seq, data=data)
    except ValueError as error:
        said = f"what stands under {subject}, at sequence {message.seq}, is no event of ours: {error}"
        raise WrongState("UNREADABLE_EVENT", said, subject=subject, sequence=message.seq) from error


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
