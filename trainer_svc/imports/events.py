"""Check the events of an import one by one, as they come."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from labelloop.domain.event_schema import shape_fault
from labelloop.domain.imported_events import EventsDigest
from labelloop.domain.run_log import RunLog
from labelloop.errors import LimitExceeded
from labelloop.eventlog.subjects import check_run_id, event_kind, subject_of
from labelloop.events.v1.events_pb2 import Event

from trainer_svc.imports.faults import bad
from trainer_svc.imports.spool import Place, Spool

_IMPORTED_BYTES = 100  # what is added to run_started


class IncomingEvents:
    """The events of an import, checked and kept on disk.

    Args:
        spool: Where they are kept.
        events_max: How many there may be.
        event_bytes_max: How many bytes one may have, which the broker decides.
    """

    def __init__(self, spool: Spool, events_max: int, event_bytes_max: int) -> None:
        self._spool, self._events_max, self._event_bytes_max = spool, events_max, event_bytes_max
        self._start: Event | None = None
        self._rules: RunLog | None = None
        self._digest = EventsDigest()
        self._begin, self._sizes = spool.size, array("Q")
        self._subjects: set[str] = set()
        self._of_kinds: dict[str, str] = {}

    @property
    def start(self) -> Event:
        """``run_started``, which says what else belongs to the run. Raises InvalidInput if there is none."""
        if self._start is None:
            raise bad("it has no events", "event")
        self._start.run_started.imported.CopyFrom(self._digest.imported())
        return self._start

    @property
    def run_id(self) -> str:
        return self.start.run_id

    @property
    def subjects(self) -> list[str]:
        """The subject of one event of each kind."""
        return list(self._of_kinds.values())

    def take(self, event: Event) -> None:
        """Take the next event.

        Raises:
            InvalidInput: If it is malformed, of another run, or cannot come next.
            LimitExceeded: If it is too large, or one too many.
        """
        number = len(self._subjects) + 1
        if number > self._events_max:
            message = f"the import has more than {self._events_max:,} events: ask to raise LABELLOOP_IMPORT_EVENTS"
            raise LimitExceeded("TOO_MANY_EVENTS", message, field="event", most=self._events_max)
        if not event.HasField("recorded_at"):
            event.recorded_at.SetInParent()  # the same each time that the import is repeated
        if fault := self._fault(event):
            raise bad(f"event {number:,}: {fault}", "event")
        kind, subject = event_kind(event), subject_of(event)
        if self._rules is None:
            check_run_id(event.run_id)
            self._check_size(event.ByteSize() + _IMPORTED_BYTES)
            self._start, self._rules = event, RunLog(event.run_started)
        else:
            self._keep(event)
            self._rules.apply(event)
        self._subjects.add(subject)
        self._of_kinds.setdefault(kind, subject)

    def _fault(self, event: Event) -> str:
        kind = event.WhichOneof("payload")
        if kind is None:
            return "it says nothing"
        if (self._rules is None) != (kind == "run_started"):
            return "an export begins with run_started, once"
        if self._start and event.run_id != self._start.run_id:
            return f"it belongs to another run, {event.run_id[:64]!r}"
        if fault := shape_fault(event):
            return f"{kind}: {fault}"
        if subject_of(event) in self._subjects:
            return f"{kind}: it says nothing new"
        fault = self._rules.fault(event) if self._rules else ""
        return f"{kind}: {fault}" if fault else ""

    def _keep(self, event: Event) -> None:
        data = event.SerializeToString(deterministic=True)
        self._check_size(len(data))
        self._sizes.append(self._spool.add(data).size)
        self._digest.add(data)

    def _check_size(self, size: int) -> None:
        if size > self._event_bytes_max:
            message = (
                f"event {len(self._subjects) + 1:,} has {size:,} bytes, and the broker takes "
                f"{self._event_bytes_max:,}: raise its max_payload"
            )
            raise LimitExceeded("EVENT_TOO_LARGE", message, field="event", most=self._event_bytes_max)

    def rest(self) -> Iterator[Event]:
        """Yield the events after ``run_started``, in order."""
        offset = self._begin
        for size in self._sizes:
            yield Event.FromString(self._spool.read(Place(offset, size)))
            offset += size
