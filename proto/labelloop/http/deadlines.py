"""Decide when a connection has taken too long to send a request or to read its answer. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Progress:
    """Where the exchange on one connection stands; times in seconds of the event loop, None while not applicable.

    Attributes:
        header_since: When the wait for a header began.
        body_since: When the header had come whose body has not.
        body_bytes: Bytes that came since.
        unread_since: Since when there has always been something that the client had not read.
        unread: The most bytes that were unread since.
    """

    header_since: float | None = None
    body_since: float | None = None
    body_bytes: int = 0
    unread_since: float | None = None
    unread: int = 0

    @property
    def awaits_client(self) -> bool:
        """Whether a request is to come that is not whole yet."""
        return self.header_since is not None or self.body_since is not None

    def unread_now(self, size: int, now_s: float) -> None:
        """Note how many bytes wait to be read by the client."""
        if not size:
            self.unread_since, self.unread = None, 0
            return
        self.unread_since = now_s if self.unread_since is None else self.unread_since
        self.unread = max(self.unread, size)


@dataclass(frozen=True)
class Deadlines:
    """How long clients may take.

    Attributes:
        header_s: Seconds from opening a connection, or from the answer before, to the whole header of a request.
        body_s: Seconds from the header to the whole body, and for each ``bytes_per_s`` bytes one more.
        read_s: Seconds until the answer is read, and for each ``bytes_per_s`` bytes of it one more.
        bytes_per_s: The slowest connection that is expected, in bytes per second.
    """

    header_s: float = 10.0
    body_s: float = 20.0
    read_s: float = 30.0
    bytes_per_s: float = 16 * 1024

    def fault(self, progress: Progress, now_s: float) -> str:
        """Return which deadline has passed: ``header``, ``body`` or ``read``; empty if none has."""
        if progress.unread_since is not None and now_s > self._end(progress.unread_since, self.read_s, progress.unread):
            return "read"
        if progress.header_since is not None and now_s > progress.header_since + self.header_s:
            return "header"
        if progress.body_since is not None and now_s > self._end(progress.body_since, self.body_s, progress.body_bytes):
            return "body"
        return ""

    def _end(self, since_s: float, allowed_s: float, size: int) -> float:
        return since_s + allowed_s + size / self.bytes_per_s
