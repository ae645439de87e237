"""Keep the leases of requests in memory, by key, by holder and by sample. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from labelloop.domain.ids import LeaseKey, RequestId
from labelloop.eventlog.streams import LEASES_KEPT_S

RESEND_S = 86_400.0


@dataclass(frozen=True)
class Lease:
    """The lease of one request.

    Attributes:
        holder: Who holds it; empty once released.
        expires_at: When it ends if ``pushed_at`` is 0. All times are in seconds since the epoch.
        pushes: Attempt counter: how many pushes the tool has taken, or answered with a result that was refused.
        counted: Whether ``pushes`` includes the push that this lease was taken for.
        pushed_at: When the tool took the request; 0 before, and from earlier releases. The lease then ends when the
            tool is to be asked again, by the setting that is in force now.
        dropped_at: When the tool drops the request by itself; 0 if it does not.
        next_revision: That of the request that the tool took.
        sequence: Stream sequence of the message that states the lease.
    """

    holder: str
    expires_at: float
    pushes: int = 0
    counted: bool = False
    pushed_at: float = 0.0
    dropped_at: float = 0.0
    next_revision: int = 0
    sequence: int = 0

    @property
    def attempt(self) -> int:
        """The attempt of the newest request that was pushed under the lease."""
        return self.pushes if self.holder and not self.counted else max(0, self.pushes - 1)

    def ends_at(self, resend_s: float) -> float:
        """Return when it ends if a tool is asked again ``resend_s`` seconds after a push."""
        if not self.pushed_at:
            return self.expires_at
        return min(self.pushed_at + resend_s, self.dropped_at or inf)


NONE = Lease("", 0.0)


class LeaseTable:
    """The newest known state of each lease.

    Args:
        now: Gives seconds since the epoch.
        resend_s: Seconds that a request may be in a tool without a result before it is pushed again.
    """

    def __init__(self, now: Callable[[], float], resend_s: float = RESEND_S) -> None:
        self._now, self._resend_s = now, resend_s
        self._held: OrderedDict[LeaseKey, Lease] = OrderedDict()  # least recently updated first
        self._heard_at: dict[LeaseKey, float] = {}
        self._keys: dict[str | RequestId, dict[LeaseKey, None]] = {}  # by holder, and by sample

    def put(self, key: LeaseKey, lease: Lease) -> None:
        """Replace the state of a lease, and forget those that the stream has forgotten by now."""
        self.forget(key)
        self._held[key], self._heard_at[key] = lease, self._now()
        if lease.holder:
            for index in (lease.holder, key.request.sample):
                self._keys.setdefault(index, {})[key] = None
        while self._heard_at[oldest := next(iter(self._held))] < self._now() - LEASES_KEPT_S:
            self.forget(oldest)

    def forget(self, key: LeaseKey) -> None:
        lease = self._held.pop(key, NONE)
        self._heard_at.pop(key, None)
        for index in (lease.holder, key.request.sample):
            self._keys.get(index, {}).pop(key, None)
            if not self._keys.get(index, True):
                del self._keys[index]

    def lease(self, key: LeaseKey) -> Lease:
        """Return the newest known state of a lease; one without a holder if there is none."""
        return self._held.get(key, NONE)

    def holder(self, key: LeaseKey) -> str:
        """Return who holds the lease now, as far as this replica knows; empty if nobody does."""
        return self.lease(key).holder if self._left_s(key) > 0 else ""

    def _left_s(self, key: LeaseKey) -> float:
        """Return seconds until a lease ends; 0 or less if it has."""
        return self.lease(key).ends_at(self._resend_s) - self._now()

    def pushes(self, key: LeaseKey) -> int:
        """Return the attempt counter of the lease, as far as this replica knows."""
        return self.lease(key).pushes

    def held_by(self, holder: str, run_id: str) -> list[LeaseKey]:
        """Return the keys of a run that ``holder`` holds, least recently renewed first."""
        found = [key for key in self._held_of(holder) if key.request.run_id == run_id]
        return sorted(found, key=lambda key: self._held[key].sequence)

    def holders(self) -> list[str]:
        """Return everybody who holds leases, or did lately."""
        return [index for index in self._keys if isinstance(index, str)]

    def runs_of(self, holder: str) -> list[str]:
        """Return the runs that ``holder`` holds requests of."""
        return list(dict.fromkeys(key.request.run_id for key in self._held_of(holder)))

    def held_of_sample(self, request: RequestId) -> list[LeaseKey]:
        """Return the keys that anybody holds of the sample of ``request``."""
        return self._held_of(request.sample)

    def ends_in_s(self, holder: str) -> float:
        """Return seconds until the first of ``holder``'s leases ends; infinity if there is none."""
        return min((self._left_s(key) for key in self._held_of(holder)), default=inf)

    def _held_of(self, index: str | RequestId) -> list[LeaseKey]:
        return [key for key in self._keys.get(index, ()) if self.holder(key)]
