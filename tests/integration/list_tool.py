"""A tool that keeps requests in a list, and running dispatchers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import ClassVar

from labelloop.errors import LimitExceeded, Unready
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelRetraction

from oracle_svc.integrations.base import ResultSink
from oracle_svc.integrations.dispatcher import IntegrationDispatcher


@dataclass
class ListTool:
    """Keep what is pushed. While ``down``, pushes raise Unready with ``retry_after_s``; those of runs in ``refused``
    raise LimitExceeded; while ``stuck``, they never return."""

    name: ClassVar[str] = "list"
    whole_samples: ClassVar[bool] = False

    pushed: list[str] = field(default_factory=list)
    next_revisions: list[int] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    retracted: list[str] = field(default_factory=list)
    retractions: list[LabelRetraction] = field(default_factory=list)
    down: bool = False
    stuck: bool = False
    refused: set[str] = field(default_factory=set)
    retry_after_s: float = 0.0
    tries_at_s: list[float] = field(default_factory=list)

    async def push(self, requests: Sequence[LabelRequest]) -> None:
        self.tries_at_s.append(monotonic())
        if self.down:
            raise Unready("TOOL_AWAY", "the tool is away", retry_after_s=self.retry_after_s)
        if requests[0].run_id in self.refused:
            raise LimitExceeded("REQUEST_TOO_LARGE", "set LABELLOOP_HTTP_URL")
        self.pushed += [request.request_id for request in requests]
        self.next_revisions += [request.next_revision for request in requests]
        self.attempts += [request.attempt for request in requests]
        if self.stuck:
            await asyncio.get_running_loop().create_future()

    async def retract(self, retractions: Sequence[LabelRetraction]) -> None:
        self.retracted += [each.request_id for each in retractions]
        self.retractions += retractions

    async def aclose(self) -> None:
        """Nothing to close."""

    async def serve(self, result_sink: ResultSink) -> None:
        await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def pumping(*dispatchers: IntegrationDispatcher) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(dispatcher.run()) for dispatcher in dispatchers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
