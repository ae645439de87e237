"""Keep the states of runs: of those that have ended only the events, which are folded again when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from labelloop.eventlog.packed_events import PackedEvents
from labelloop.events.v1.events_pb2 import Event

FOLDED_AT_ONCE_MAX = 5_000
"""Events of a run that may be folded again on the event loop: a tenth of a second. Longer runs are kept as they are."""
_FOLDED_KEPT = 20_000
"""Events of ended runs whose states are kept: some 40 MB."""


class Folded(Protocol):
    """The state of a run."""

    def apply(self, event: Event, at: datetime) -> None:
        """Apply an event that has no fault."""
        ...

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        ...


R = TypeVar("R", bound=Folded)
T = TypeVar("T")


class _Packed(NamedTuple):
    summary: Any


class KeptRun(NamedTuple):
    """What is kept of a run.

    Attributes:
        summary: What is shown of it if it has ended and its state is not kept; None otherwise.
    """

    run_id: str
    events: PackedEvents
    summary: Any


class RunStates(MutableMapping[str, R], Generic[R]):
    """The state of each run by its id, in the order in which runs were started.

    Of runs that have ended, those that were asked for or changed last are kept as they are. Of the others the events
    that were applied are kept, compressed, and ``summarize``'s view of them; looking one up folds its events again,
    which gives the same state as a restart of the service does. Iterating over ``values()`` would do so for each: use
    :meth:`going`, :meth:`each` and :meth:`is_going` to look at all runs. These may be called from another thread.

    Args:
        begin: Creates a run's state from its ``run_started`` event and the time at which that was recorded.
        summarize: Returns what is shown of a run that has ended, without its samples. None to keep all states.
    """

    def __init__(self, begin: Callable[[Event, datetime], R], summarize: Callable[[R], object] | None = None) -> None:
        self._begin, self._summarize = begin, summarize
        self._states: dict[str, R | _Packed] = {}
        self._events: dict[str, PackedEvents] = {}
        self._ended: dict[str, int] = {}  # ended runs whose states are kept, oldest use first, and how many events

    def begin(self, event: Event, at: datetime) -> R:
        """Create a run's state, which is not among the others yet, and note its first event."""
        if self._summarize:
            self._events[event.run_id] = PackedEvents()
            self._note(event, b"")
        return self._begin(event, at)

    def apply(self, state: R, event: Event, at: datetime, data: bytes = b"") -> None:
        """Apply an event to a state that :meth:`begin` returned; ``data`` is the event as it stands in the log."""
        state.apply(event, at)
        self._note(event, data)
        if self._states.get(event.run_id) is state:
            self._settle(event.run_id, state)

    def _note(self, event: Event, data: bytes) -> None:
        if (events := self._events.get(event.run_id)) is None:
            return
        events.add(data or event.SerializeToString(deterministic=True))
        if events.count > FOLDED_AT_ONCE_MAX:
            self._ended.pop(event.run_id, None)

    def _settle(self, run_id: str, state: R) -> None:
        """Note that the run was used, if it has ended, and pack those that were not for longest."""
        events = self._events.get(run_id)
        if not events or not state.over or events.count > FOLDED_AT_ONCE_MAX:
            return
        self._ended.pop(run_id, None)
        self._ended[run_id] = events.count
        while len(self._ended) > 1 and sum(self._ended.values()) > _FOLDED_KEPT:
            self._pack(next(iter(self._ended)))

    def _pack(self, run_id: str) -> None:
        del self._ended[run_id]
        state = self._states[run_id]
        assert self._summarize
        assert not isinstance(state, _Packed)
        self._states[run_id] = _Packed(self._summarize(state))
        self._events[run_id].seal()

    def going(self) -> list[R]:
        """Return the states of the runs that have not ended."""
        states = list(self._states.values())
        return [state for state in states if not isinstance(state, _Packed) and not state.over]

    def is_going(self, run_id: str) -> bool:
        """Return whether there is such a run and it has not ended."""
        state = self._states.get(run_id)
        return state is not None and not isinstance(state, _Packed) and not state.over

    def each(
        self, of_state: Callable[[R], T], of_summary: Callable[[Any], T], among: Iterable[str] | None = None
    ) -> list[T]:
        """Return what two functions make of the runs' states, or of what ``summarize`` returned of those packed.

        Args:
            among: Ids of the runs, each of which must be there. None for all, in the order in which they were started.
        """
        states = list(self._states.values()) if among is None else [self._states[run_id] for run_id in among]
        return [of_summary(each.summary) if isinstance(each, _Packed) else of_state(each) for each in states]

    def kept(self) -> list[KeptRun]:
        """Return what is kept of each run, in the order in which they were started."""
        assert self._summarize, "without it, no events are kept"
        return [
            KeptRun(run_id, self._events[run_id], state.summary if isinstance(state, _Packed) else None)
            for run_id, state in self._states.items()
        ]

    def taken_over(self, runs: Iterable[KeptRun]) -> RunStates[R]:
        """Return the states that :meth:`kept` was called of; runs without a summary are folded, which may take long."""
        states = RunStates(self._begin, self._summarize)
        for run in runs:
            states._events[run.run_id] = run.events
            if run.summary is None:
                states[run.run_id] = self._folded(run.events)
            else:
                states._states[run.run_id] = _Packed(run.summary)
        return states

    def drop(self, run_id: str) -> None:
        """Drop a run, if there is one, and the events of one that :meth:`begin` returned."""
        self._states.pop(run_id, None)
        self._events.pop(run_id, None)
        self._ended.pop(run_id, None)

    def __getitem__(self, run_id: str) -> R:
        state = self._states[run_id]
        if isinstance(state, _Packed):
            state = self._states[run_id] = self._folded(self._events[run_id])
        self._settle(run_id, state)
        return state

    def _folded(self, packed: PackedEvents) -> R:
        events = iter(packed)
        first = next(events)
        state = self._begin(first, first.recorded_at.ToDatetime(UTC))
        for event in events:
            state.apply(event, event.recorded_at.ToDatetime(UTC))
        return state

    def __setitem__(self, run_id: str, state: R) -> None:
        self._states[run_id] = state
        self._settle(run_id, state)

    def __delitem__(self, run_id: str) -> None:
        if run_id not in self._states:
            raise KeyError(run_id)
        self.drop(run_id)

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._states

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._states))

    def __repr__(self) -> str:
        return f"RunStates({self._states})"

    def __len__(self) -> int:
        return len(self._states)
