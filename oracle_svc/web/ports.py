"""Define what the labelling page needs of the oracle: its service, called in process, and its runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from labelloop.domain.run_log import RunLog
from labelloop.domain.sample_outcomes import Outcome
from labelloop.eventlog.run_states import RunStates
from labelloop.events.v1.events_pb2 import AnswerGiven, PoolPublished, RunSpec
from labelloop.oracle.v1 import oracle_pb2 as pb

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.progress import Progress


class Service(Protocol):
    """Methods of the oracle's servicer. The context is None here; all may raise LabelloopError."""

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
    def run_log(self) -> RunLog: ...

    @property
    def given(self) -> Mapping[int, Mapping[int, AnswerGiven]]: ...

    @property
    def heard(self) -> Mapping[int, Mapping[str, Outcome]]: ...

    @property
    def progress(self) -> Progress: ...


class Projections(Protocol):
    """All runs, and subscriptions to their changes; RunProjections implements it."""

    @property
    def runs(self) -> RunStates[LabelingState]: ...

    def get(self, run_id: str) -> Run:
        """Return a run. Raises NotFound if there is none."""
        ...

    def subscribe(self, run_id: str = ...) -> AbstractContextManager[asyncio.Event]: ...
