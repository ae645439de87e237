"""Bound how many calls of a method are served at once and how many wait, and refuse the others at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from labelloop.errors import LimitExceeded

_RETRY_S = 1.0


@dataclass(frozen=True)
class Bound:
    """The bound on calls of some methods, each of which has turns of its own.

    Attributes:
        methods: Their names.
        at_once: How many calls of each method are served at once.
        waiting: How many more may wait for their turn.
        where: Where the work is done, in words, such as the threads' name.
    """

    methods: Sequence[str]
    at_once: int
    waiting: int
    where: str


@dataclass(frozen=True)
class CallBounds:
    """What a service decided about each of its methods.

    Attributes:
        bounds: The bounds of those that compute, or read much.
        unbounded: Why a method needs none, by its name.
    """

    bounds: Sequence[Bound]
    unbounded: Mapping[str, str]

    def turns(self) -> dict[str, Turns]:
        """Return the turns of each method that has a bound, for one server."""
        return {method: Turns(method, bound) for bound in self.bounds for method in bound.methods}

    def table(self) -> Iterator[str]:
        """Yield the rows of the table in the service's README."""
        for bound in self.bounds:
            for method in bound.methods:
                yield f"| `{method}` | {bound.at_once} | {bound.waiting} | {bound.where} |"
        for method, why in self.unbounded.items():
            yield f"| `{method}` | | | {why} |"


class Turns:
    """Admits the calls of one method, in the order in which they come."""

    def __init__(self, method: str, bound: Bound) -> None:
        self._method, self._bound = method, bound
        self._free, self._waiting = asyncio.Semaphore(bound.at_once), 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it within the context. LimitExceeded if too many wait already."""
        if self._free.locked() and self._waiting >= self._bound.waiting:
            raise self._refusal()
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()

    def _refusal(self) -> LimitExceeded:
        at_once, waiting = self._bound.at_once, self._bound.waiting
        message = (
            f"{self._method}: {at_once} calls are being served and {waiting} wait already, which is as many as may: "
            "try again in a moment, or at another replica"
        )
        limits: dict[str, Any] = {"method": self._method, "at_once": at_once, "waiting": waiting}
        return LimitExceeded("TOO_MANY_CALLS", message, retry_after_s=_RETRY_S, **limits)


def in_turn(behaviour: Callable[[Any, Any], Awaitable[Any]], turns: Turns) -> Callable[[Any, Any], Awaitable[Any]]:
    """Wrap a handler that returns one response."""

    async def call(request: Any, context: Any) -> Any:
        async with turns.turn():
            return await behaviour(request, context)

    return call


def streamed_in_turn(
    behaviour: Callable[[Any, Any], AsyncIterator[Any]], turns: Turns
) -> Callable[[Any, Any], AsyncIterator[Any]]:
    """Wrap a handler that yields responses; it holds its turn until the last one is sent."""

    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        async with turns.turn():
            responses: Any = behaviour(request, context)
            async with aclosing(responses):
                async for response in responses:
                    yield response

    return call
