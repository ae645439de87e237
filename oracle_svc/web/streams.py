"""A run's progress, live: server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from sse_starlette import ServerSentEvent

from oracle_svc.web.progress_json import curves_json, curves_version, now_json
from oracle_svc.web.seam import Book

HEARTBEAT_S = 15
RETRY_MS = 2_000  # after which a browser asks again
_TOGETHER_S = 0.15  # what comes within is told at once: a label brings several events, an import thousands


class Streams:
    """All streams that are open, so that they can be ended."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._bells: set[asyncio.Event] = set()
        self._over = False

    async def progress(self, run_id: str) -> AsyncIterator[ServerSentEvent]:
        """``now`` at each change and ``curves`` at each round, both at the start; ends with the server."""
        told: tuple[int, ...] | None = None
        said: dict[str, Any] | None = None
        with self._book.bell(run_id) as bell:
            self._bells.add(bell)
            try:
                while not self._over:
                    bell.clear()
                    progress = self._book.get(run_id).progress
                    if told != (told := curves_version(progress)):
                        yield _event("curves", curves_json(progress))
                    if said != (said := now_json(progress)):
                        yield _event("now", said)
                    await bell.wait()
                    await asyncio.sleep(_TOGETHER_S)
            finally:
                self._bells.discard(bell)

    def end(self) -> None:
        """End them all, and those that are yet to come."""
        self._over = True
        for bell in self._bells:
            bell.set()


def heartbeat() -> ServerSentEvent:
    """An event and no mere comment, which browsers keep to themselves: the page tells by it that the line is up."""
    return _event("beat", {})


def _event(name: str, data: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data, separators=(",", ":")), event=name, retry=RETRY_MS)
