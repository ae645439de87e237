"""Decide which replica of a service advances which run. No I/O."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain

SILENT_S = 3.0
"""Seconds without a heartbeat after which a replica counts as gone."""
HELD_UP_S = 60.0
"""Seconds for which a replica leaves a run to others after it failed to advance it."""
_REPLICAS_MAX = 64
_HELD_UP_MAX = 256


@dataclass(frozen=True)
class Heartbeat:
    """What a replica says about itself.

    Attributes:
        replica: Its name, unique to one life of the process.
        sequence: Sequence of the newest event of the log that it has applied.
        held_up: Its problems with runs that it failed to advance lately, by run.
    """

    replica: str
    sequence: int = 0
    held_up: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Other:
    heard_at: float
    held_up: Mapping[str, str]


class RunOwners:
    """The replicas that one replica knows of, itself included, and the runs that each of them owns.

    A run is owned by one of the replicas that are there, by highest random weight: replicas that know the same others
    find the same owner without asking, runs spread evenly, and a replica that comes or goes moves only its own runs.
    While replicas know different others, a run may have two owners, or none for up to ``SILENT_S``. Two do the same
    work, and the event log records it once.

    Times are of this replica's own clock, and only of when it heard something.

    Args:
        replica: This replica's name.
        now: Gives seconds on a monotonic clock.
    """

    def __init__(self, replica: str = "", now: Callable[[], float] = time.monotonic) -> None:
        self.replica, self._now = replica, now
        self._others: dict[str, _Other] = {}
        self._held_up: dict[str, tuple[float, str]] = {}
        self._applied: deque[tuple[float, int]] = deque()
        self._looked_at = now()

    def mine(self, run_id: str) -> bool:
        """Return whether this replica is to advance the run; may be called from another thread."""
        return not self._others or self._owner(run_id) == self.replica

    def _owner(self, run_id: str) -> str:
        """Return the owner: one that the run is not held up at, unless it is held up at all of them."""
        held_up: dict[str, Mapping[str, object]] = {self.replica: self._held_up}
        held_up |= {replica: other.held_up for replica, other in self._others.copy().items()}
        able = [replica for replica, problems in held_up.items() if run_id not in problems]
        return max(able or held_up, key=lambda replica: sha256(f"{replica} {run_id}".encode()).digest())

    def problem(self, run_id: str) -> str:
        """Return the problem that a run's owner reported; empty if there is none or this replica is the owner."""
        owner = self._owner(run_id)
        return "" if owner == self.replica else self._others[owner].held_up.get(run_id, "")

    def hold_up(self, run_id: str, problem: str) -> None:
        """Leave a run to others for ``HELD_UP_S`` seconds, as it could not be advanced here."""
        if run_id in self._held_up or len(self._held_up) < _HELD_UP_MAX:
            self._held_up[run_id] = self._now(), problem

    def go_on(self, run_id: str) -> None:
        """Note that a run was advanced here."""
        self._held_up.pop(run_id, None)

    def heartbeat(self, sequence: int) -> Heartbeat:
        """Return what to tell others; ``sequence`` is that of the newest event applied here."""
        return Heartbeat(self.replica, sequence, {run_id: problem for run_id, (_, problem) in self._held_up.items()})

    def hear(self, beat: Heartbeat) -> bool:
        """Take in a heartbeat; return whether a run's owner or its problem may have changed.

        A replica that has not applied an event which this one applied ``SILENT_S`` ago counts as silent: it follows
        the log from a node that stands still.
        """
        known = self._others.get(beat.replica)
        if beat.replica == self.replica or beat.sequence < self._applied_long_ago():
            return False
        if known is None and len(self._others) >= _REPLICAS_MAX:
            return False
        self._others[beat.replica] = _Other(self._now(), dict(beat.held_up))
        return known is None or known.held_up != beat.held_up

    def leave(self, replica: str) -> bool:
        """Note that another replica has stopped its work; return whether it was known."""
        return self._others.pop(replica, None) is not None

    def look(self, sequence: int, *, hearing: bool) -> bool:
        """Drop replicas that fell silent; call this at least every ``SILENT_S / 2`` seconds.

        Args:
            sequence: Sequence of the newest event applied here.
            hearing: Whether this replica is connected. Time in which it could hear nobody proves nothing, nor does time
                in which it was paused.

        Returns:
            Whether a run's owner may have changed.
        """
        now, before = self._now(), self._looked_at
        self._looked_at = now
        if not hearing or now - before > SILENT_S / 2:
            for other in self._others.values():
                other.heard_at = now
        self._applied.append((now, sequence))
        while len(self._applied) > 1 and self._applied[1][0] <= now - SILENT_S:
            self._applied.popleft()
        silent = [replica for replica, other in self._others.items() if now - other.heard_at > SILENT_S]
        over = [run_id for run_id, (since, _) in self._held_up.items() if now - since > HELD_UP_S]
        for replica in silent:
            del self._others[replica]
        for run_id in over:
            del self._held_up[run_id]
        return any(chain(silent, over))

    def _applied_long_ago(self) -> int:
        """Return the newest sequence that was applied here at least ``SILENT_S`` ago; 0 if there is none."""
        long_ago = self._now() - SILENT_S
        return max((sequence for at, sequence in self._applied if at <= long_ago), default=0)
