"""Stream a run's progress to the labelling page as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any

from labelloop.domain.hold_ups import HoldUp
from labelloop.errors import LimitExceeded
from sse_starlette import ServerSentEvent

from oracle_svc.web.ports import Projections
from oracle_svc.web.progress_json import curves_json, curves_version, now_json

HEARTBEAT_S = 15
LOOK_AGAIN_S = 10.0  # whether the session still stands, where nothing happens
STREAMS_OF_ONE = 40  # windows of one annotator
STREAMS_MAX = 500
RETRY_MS = 2_000  # after which a browser reconnects
_TOGETHER_S = 0.15  # changes within it are sent together: a label causes several events, an import thousands


HeldUp = Callable[[str], Sequence[HoldUp]]


class EventStreams:
    """All open event streams, kept so that they can be ended. ``held_up`` returns what holds up the run of an id."""

    def __init__(self, projections: Projections, held_up: HeldUp = lambda _: ()) -> None:
        self._projections, self._held_up = projections, held_up
        self._subscriptions: set[asyncio.Event] = set()
        self._of: Counter[str] = Counter()
        self._over = False

    def admit(self, annotator: str) -> None:
        """Raise LimitExceeded if an annotator has too many streams open, or all have together."""
        if self._of[annotator] >= STREAMS_OF_ONE or self._of.total() >= STREAMS_MAX:
            message = "too many pages are open at once: close some, and the rest is updated again"
            raise LimitExceeded("TOO_MANY_STREAMS", message, retry_after_s=RETRY_MS / 1_000)

    async def progress(
        self, run_id: str, annotator: str = "", stands: Callable[[], bool] = lambda: True
    ) -> AsyncIterator[ServerSentEvent]:
        """Stream ``now`` at each change and ``curves`` at each round, both at the start.

        It ends after :meth:`end`, and within ten seconds after ``stands``, whether the session does, has become false.
        """
        self._of[annotator] += 1
        try:
            async for event in self._progress(run_id, stands):
                yield event
        finally:
            self._of[annotator] -= 1
            if not self._of[annotator]:
                del self._of[annotator]

    async def _progress(self, run_id: str, stands: Callable[[], bool]) -> AsyncIterator[ServerSentEvent]:
        told: tuple[int, ...] | None = None
        said: dict[str, Any] | None = None
        with self._projections.subscribe(run_id) as subscribe:
            self._subscriptions.add(subscribe)
            try:
                while not self._over and stands():
                    subscribe.clear()
                    if run_id not in self._projections.runs:  # archived meanwhile: asking again tells
                        return
                    progress = self._projections.get(run_id).progress
                    if told != (told := curves_version(progress)):
                        yield _event("curves", curves_json(progress))
                    if said != (said := now_json(progress, self._held_up(run_id))):
                        yield _event("now", said)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_AGAIN_S):
                            await subscribe.wait()
                    await asyncio.sleep(_TOGETHER_S)
            finally:
                self._subscriptions.discard(subscribe)

    def end(self) -> None:
        """End all open streams, and any that are opened later."""
        self._over = True
        for subscribe in self._subscriptions:
            subscribe.set()


def heartbeat() -> ServerSentEvent:
    """Return an event by which the page knows that the connection is up.

    A comment would not do: browsers do not pass comments to the page.
    """
    return _event("beat", {})


def _event(name: str, data: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data, separators=(",", ":")), event=name, retry=RETRY_MS)
