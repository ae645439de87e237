"""Limit the open connections of a listener, in all and for each client, and choose which to close. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)


class ConnectionTable(Generic[C]):
    """The open connections of a listener.

    Where one more would be too many, the connection that has waited longest for a request is to be closed. A client
    that opens connections and asks nothing thus displaces its own; a client that asks at once is served, even from
    the same address. Every operation takes constant time.

    Args:
        most: Connections at once, 1 or more.
        most_of_one: Connections at once of one group of clients; None for no such limit.
    """

    def __init__(self, most: int, most_of_one: int | None = None) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._group: dict[C, str | None] = {}
        self._count: Counter[str | None] = Counter()
        self._waiting: dict[C, None] = {}  # in the order in which they began to wait
        self._waiting_of: dict[str | None, dict[C, None]] = {}

    def __len__(self) -> int:
        return len(self._group)

    def __iter__(self) -> Iterator[C]:
        return iter(self._group)

    def room_for(self, group: str | None) -> tuple[bool, C | None]:
        """Return whether a connection of ``group`` may be added, and which one is to be closed for it, if any.

        ``group`` is None for clients that the limit of one group does not apply to, such as reverse proxies.
        """
        if group is not None and self._most_of_one is not None and self._count[group] >= self._most_of_one:
            return self._longest(self._waiting_of.get(group, {}))
        if len(self._group) >= self._most:
            return self._longest(self._waiting)
        return True, None

    def add(self, connection: C, group: str | None) -> None:
        """Add a connection, which waits for a request."""
        self._group[connection] = group
        self._count[group] += 1
        self.waits(connection)

    def waits(self, connection: C) -> None:
        """Note that a connection waits for a request, or for the rest of one; it may be closed from now on."""
        if connection in self._group and connection not in self._waiting:
            self._waiting[connection] = None
            self._waiting_of.setdefault(self._group[connection], {})[connection] = None

    def works(self, connection: C) -> None:
        """Note that a whole request has come: others do not displace the connection while it is answered."""
        if self._waiting.pop(connection, self) is self:
            return
        group = self._group[connection]
        self._waiting_of[group].pop(connection)
        if not self._waiting_of[group]:
            del self._waiting_of[group]

    def remove(self, connection: C) -> None:
        """Forget a connection; do nothing if it is not there."""
        if connection not in self._group:
            return
        self.works(connection)
        group = self._group.pop(connection)
        self._count[group] -= 1
        if not self._count[group]:
            del self._count[group]

    def _longest(self, waiting: dict[C, None]) -> tuple[bool, C | None]:
        found = next(iter(waiting), None)
        return found is not None, found
