"""Tell work in a thread that nobody waits for its result any more. No I/O.

Python cannot stop a thread, so loops that may take long call :func:`check_wanted` at least a few times a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


class Abandoned(BaseException):
    """Nobody waits for this work any more.

    A BaseException, so that no handler of ordinary errors catches it, such as one that skips a file that is damaged.
    """


class Wanted:
    """Whether somebody waits for a piece of work, which :meth:`run` carries out in any thread."""

    def __init__(self) -> None:
        self._abandoned = False

    def abandon(self) -> None:
        """End the work at its next :func:`check_wanted`."""
        self._abandoned = True

    def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Return ``work(*arguments)``. Abandoned if that is ended before."""
        before = _WANTED.set(self)
        try:
            self.check()
            return work(*arguments)
        finally:
            _WANTED.reset(before)

    def check(self) -> None:
        """Raise Abandoned if nobody waits any more."""
        if self._abandoned:
            raise Abandoned


_WANTED: ContextVar[Wanted | None] = ContextVar("wanted", default=None)


def check_wanted() -> None:
    """Raise Abandoned if nobody waits for the work of this thread any more; do nothing in any other code."""
    work = _WANTED.get()
    if work is not None:
        work.check()


def wanted(items: Iterable[T]) -> Iterator[T]:
    """Yield each item, after :func:`check_wanted`."""
    for item in items:
        check_wanted()
        yield item


def passed_on(work: Callable[..., T]) -> Callable[..., T]:
    """Return ``work`` such that in other threads it ends together with the work that calls this."""
    caller = _WANTED.get()
    return work if caller is None else lambda *arguments: caller.run(work, *arguments)
