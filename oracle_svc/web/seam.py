"""What the page needs of the oracle: its service's methods, called in process, and its runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from labelloop.events.v1.events_pb2 import PoolPublished, RunSpec
from labelloop.oracle.v1 import oracle_pb2 as pb

from oracle_svc.web.progress import Progress


class Service(Protocol):
    """The servicer's methods; the context is None here. All raise LabelloopError."""

    async def LeaseNext(self, request: pb.LeaseNextRequest, context: Any) -> pb.LeaseNextResponse: ...  # noqa: N802

    async def SubmitResults(  # noqa: N802
        self, request: pb.SubmitResultsRequest, context: Any
    ) -> pb.SubmitResultsResponse: ...

    async def ReleaseLeases(  # noqa: N802
        self, request: pb.ReleaseLeasesRequest, context: Any
    ) -> pb.ReleaseLeasesResponse: ...

    async def GetBacklog(self, request: pb.GetBacklogRequest, context: Any) -> pb.GetBacklogResponse: ...  # noqa: N802


class Run(Protocol):
    """A run as the page sees it."""

    @property
    def run_id(self) -> str: ...

    @property
    def spec(self) -> RunSpec: ...

    @property
    def pool(self) -> PoolPublished | None: ...

    @property
    def over(self) -> bool: ...

    @property
    def progress(self) -> Progress: ...


class Book(Protocol):
    """All runs, and bells that ring when one changes; a RunBook is one."""

    @property
    def runs(self) -> Mapping[str, Run]: ...

    def get(self, run_id: str) -> Run:
        """NotFound where there is no such run."""
        ...

    def bell(self, run_id: str = ...) -> AbstractContextManager[asyncio.Event]: ...
