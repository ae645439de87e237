"""The log of all runs: append once, replay, follow.

Every subject is written at most once: the broker rejects a second write, the loser reads back what stands there and
goes on from it. State is a fold over what :meth:`EventLog.follow` yields, in stream order; there are no durable
consumers, because a service that starts anew replays the log anyway, and acknowledgements would be a second truth.
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
from nats.js import JetStreamContext
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from labelloop.events.v1.events_pb2 import Event
from labelloop.wire import metrics, tracing
from labelloop.wire.basis import Basis
from labelloop.wire.broker import jetstream
from labelloop.wire.crash_points import crash_point
from labelloop.wire.errors import LimitExceeded, WrongState
from labelloop.wire.following import follow_stream
from labelloop.wire.once import ensure_replicas, ensure_stream, publish_once
from labelloop.wire.patience import patiently
from labelloop.wire.run_rules import shape_fault
from labelloop.wire.subjects import EVERYTHING, PREFIX, STREAM, event_kind, subject_of

log = structlog.get_logger()


@dataclass(frozen=True)
class Recorded:
    """What stands at one place of the stream; ``event`` is None where it is unreadable, ``ours`` says that the append
    which found it there wrote it. ``carrier`` tells of the span it was written in, where that was traced."""

    event: Event | None
    sequence: int
    ours: bool = False
    carrier: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def at(self) -> datetime:
        """When it was first recorded, by its writer's clock: an import keeps it. Order is the stream's, not this."""
        return self.event.recorded_at.ToDatetime(UTC) if self.event else datetime.min.replace(tzinfo=UTC)


class EventLog:
    """``undecodable`` counts events that could not be read; they stay in the stream and are passed over."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._js: JetStreamContext = jetstream(client)
        self.undecodable = 0
        self._basis = Basis(self._js, STREAM)

    async def ensure_stream(self, replicas: int = 1) -> None:
        """Make the stream where there is none, on ``replicas`` nodes of a cluster; give one that has fewer as many.

        WrongState where one stands whose settings could lose events.
        """
        config = StreamConfig(
            name=STREAM,
            subjects=[EVERYTHING],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            num_replicas=replicas,
            deny_delete=True,
            deny_purge=True,
        )
        info = await patiently(lambda: ensure_stream(self._js, config))
        standing = info.config
        limits = (standing.max_msgs, standing.max_bytes, standing.max_age)
        if standing.retention != RetentionPolicy.LIMITS or any(limit and limit > 0 for limit in limits):
            message = f"stream {STREAM} would forget events: it must have limits retention and no limit of its own"
            raise WrongState("STREAM_FORGETS", message, stream=STREAM)
        await ensure_replicas(self._js, standing, replicas)

    async def append_once(self, event: Event) -> Recorded:
        """Write ``event``, or where its subject is taken, read what stands there. Waits out a broker's absence.

        Sets ``recorded_at`` where it is not set. WrongState where what stands there cannot be read.
        """
        kind = event_kind(event)
        if not event.HasField("recorded_at"):
            event.recorded_at.GetCurrentTime()
        if fault := shape_fault(event):
            raise ValueError(f"{kind} of round {event.round}: {fault}")
        subject, data = subject_of(event), event.SerializeToString(deterministic=True)
        crash_point(f"before append {kind}")
        recorded = await patiently(lambda: self._append(event, subject, data))
        crash_point(f"after append {kind}")
        return recorded

    async def _append(self, event: Event, subject: str, data: bytes) -> Recorded:
        if self._basis.in_doubt:
            await self._basis.settle()
        try:
            if not self._client.is_connected:
                raise ConnectionReconnectingError  # or the client would send it later, unasked
            sequence = await publish_once(self._js, subject, data, tracing.headers())
        except MaxPayloadError as error:
            message = f"{subject} takes {len(data)} bytes, more than the broker's max_payload: raise that"
            raise LimitExceeded("EVENT_TOO_LARGE", message, subject=subject, size=len(data)) from error
        except Exception:
            metrics.APPEND_FAILURES.inc()
            self._basis.in_doubt = True
            raise
        if sequence:
            return Recorded(event, sequence, ours=True)
        standing = await self._read_back(subject)
        ours = standing.event == event  # where only the answer to it was lost
        metrics.APPENDS_LOST.inc(not ours)
        return replace(standing, ours=ours)

    async def _read_back(self, subject: str) -> Recorded:
        message = await self._js.get_last_msg(STREAM, subject)
        assert message.seq is not None, "a message that stands has a sequence"
        try:
            return Recorded(_readable(subject, message.data or b""), message.seq)
        except ValueError as error:
            said = f"what stands under {subject}, at sequence {message.seq}, is no event of ours: {error}"
            raise WrongState("UNREADABLE_EVENT", said, subject=subject, sequence=message.seq) from error

    async def watch(self) -> None:
        """For ever, beside the one :meth:`follow` of everything: what the broker holds back is asked for anew.
        LogRolledBack where it took back what was read."""
        await self._basis.watch()

    async def last_sequence(self) -> int:
        """The sequence of the newest event; 0 where there is none."""
        return int((await patiently(lambda: self._js.stream_info(STREAM))).state.last_seq)

    async def read_run(self, run_id: str) -> list[Recorded]:
        """The readable events of a run as they stand now, in order; empty where there is none."""
        return [recorded async for recorded in self.read_on(run_id)]

    async def read_on(self, run_id: str, after: int = 0) -> AsyncGenerator[Recorded, None]:
        """The same, one after the other, behind sequence ``after``."""
        subject = f"{PREFIX}.{run_id}.>"
        try:
            last = int((await patiently(lambda: self._js.get_last_msg(STREAM, subject))).seq or 0)
        except NotFoundError:
            return
        if last <= after:
            return
        async with aclosing(self.follow(subject, after)) as standing:
            async for recorded in standing:
                if recorded.event:
                    yield recorded
                if recorded.sequence == last:
                    return

    async def follow(self, subject: str = EVERYTHING, after: int = 0) -> AsyncGenerator[Recorded, None]:
        """All events under ``subject`` behind sequence ``after``, in order, without gap or repeat, for ever."""
        async for message in follow_stream(self._client, self._js, STREAM, subject, after, self._basis):
            sequence, carrier = message.metadata.sequence.stream, tracing.carrier(message.headers)
            yield Recorded(self._decode(message), sequence, carrier=carrier)

    def _decode(self, message: Msg) -> Event | None:
        try:
            return _readable(message.subject, message.data)
        except ValueError as error:
            self.undecodable += 1
            metrics.UNREADABLE.inc()
            place = message.metadata.sequence.stream
            log.error("unreadable event passed over", sequence=place, subject=message.subject, error=str(error))
            return None


def _readable(subject: str, data: bytes) -> Event:
    """The event that ``data`` holds. ValueError where it holds none, or one that cannot stand under ``subject``."""
    try:
        event = Event.FromString(data)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    if subject_of(event) != subject:
        raise ValueError(f"it belongs under {subject_of(event)}")
    if fault := shape_fault(event):
        raise ValueError(fault)
    return event
