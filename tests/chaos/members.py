"""Real trainers and oracles on a simulated event loop, event log and stores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol, cast

from labelloop.domain.run_owners import RunOwners
from labelloop.errors import LabelloopError
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import DatasetSource, Event
from labelloop.oracle.v1.oracle_pb2 import (
    ListOpenSamplesRequest,
    ListOpenSamplesResponse,
    SkipSamplesRequest,
    SubmitLabelsRequest,
    SubmitLabelsResponse,
    SubmitResultsRequest,
)
from labelloop.scorer.v1.scorer_pb2 import RankPoolResponse
from labelloop.trainer.v1.trainer_pb2 import CancelRunRequest
from numpy.typing import NDArray

from oracle_svc import bootstrap as oracle_bootstrap
from oracle_svc.datasets import Dataset
from oracle_svc.domain.labeling_state import LabelingState
from tests.chaos.stand_ins import DATASET, SAMPLES, fit, ranking
from tests.chaos.turns import Turns
from tests.unused import UNUSED
from trainer_svc import bootstrap as trainer_bootstrap
from trainer_svc.domain.run_state import RunState
from trainer_svc.model.fit import FitJob
from trainer_svc.scorers.columns import Columns, columns_of

RUN = "run"
Begin = Callable[[Event, datetime], Any]


class Surroundings(Protocol):
    """The members' environment; decides when what they wait for happens."""

    loop: Turns
    artifacts: dict[str, bytes]
    seconds: float

    def new_name(self) -> str:
        """Return a name that no other life of a member has."""
        ...

    async def write(self, event: Event) -> Recorded:
        """Return the event recorded under the subject, once its writer learns of it."""
        ...

    def work(self, result: Callable[[], Any]) -> Any:
        """Return a future of ``result``."""
        ...

    def told(self, request: SubmitLabelsRequest, response: SubmitLabelsResponse) -> None:
        """Note that submitted labels were accepted."""
        ...


class Artifacts:
    """Stores at once: the fit before it already waits."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def put(self, data: bytes) -> str:
        digest = sha256(data).hexdigest()
        self._around.artifacts[digest] = data
        return digest

    async def get(self, digest: str) -> bytes:
        data: bytes = await self._around.work(lambda: self._around.artifacts[digest])
        return data


class Scorers:
    """Answer later, by the arguments as they are now."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def rank(
        self,
        pool: str,
        model: str,
        strategy: int,
        limit: int,
        leave_out: Collection[int],
        seed: int,
        *,
        features: str,
        with_samples: bool = True,
    ) -> RankPoolResponse:
        asked = frozenset(leave_out)
        ranked: RankPoolResponse = await self._around.work(lambda: ranking(model, seed, strategy, limit, asked))
        return ranked

    async def rank_all(
        self, pool: str, model: str, strategy: int, leave_out: Collection[int], seed: int, *, features: str
    ) -> Columns:
        return columns_of(await self.rank(pool, model, strategy, 0, leave_out, seed, features=features))

    async def samples(
        self, pool: str, sample_ids: Sequence[int], sample_bytes: int, features: str = ""
    ) -> NDArray[Any]:
        samples: NDArray[Any] = await self._around.work(lambda: SAMPLES[list(sample_ids)])
        return samples


class OneDataset:
    async def get(self, source: DatasetSource) -> Dataset:
        return DATASET


class Member:
    """One life of a process: its fold of the events delivered so far, and the tasks that follow from it."""

    def __init__(self, around: Surroundings, begin: Begin) -> None:
        self.around = around
        self.projections: RunProjections[Any] = RunProjections(begin)
        self.owners = RunOwners(around.new_name(), now=lambda: around.seconds)
        self.seen = 0
        self.alive = True
        self._tasks: list[Any] = []

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(self.around.loop.create_task(work))

    def read(self, recorded: Recorded) -> None:
        """Apply an event. A recreated consumer may repeat events."""
        self.projections.apply(recorded)
        self.seen = max(self.seen, recorded.sequence)

    def hear(self, other: Member, *, there: bool) -> None:
        """Take another member of the same service for there or for gone, whatever it is."""
        beat = other.owners.heartbeat(other.projections.sequence)
        if self.owners.hear(beat) if there else self.owners.leave(beat.replica):
            self.projections.notify(RUN)

    def look(self) -> None:
        """Take members that were not heard lately for gone."""
        if self.owners.look(self.projections.sequence, hearing=True):
            self.projections.notify(RUN)

    def kill(self) -> None:
        self.alive = False
        for task in self._tasks:
            task.cancel()

    async def append_once(self, event: Event) -> Recorded:
        return await self.around.write(event)


class Trainer(Member):
    def __init__(self, around: Surroundings, begin: Begin = RunState.begin) -> None:
        super().__init__(around, begin)
        log, scorers, executor = cast(Any, self), cast(Any, Scorers(around)), cast(Any, self._fit)
        trainer = trainer_bootstrap.Trainer(
            log, Artifacts(around), scorers, UNUSED, executor, self.projections, self.owners
        )
        self._service = trainer.service
        self.run(trainer.advance_runs())

    def _fit(self, work: Callable[..., Any], job: Any) -> Any:
        """Carry out the trainer's work, and in place of a fit that of the simulation."""
        return self.around.work(lambda: fit(job) if isinstance(job, FitJob) else work(job))

    def cancel(self) -> None:
        self.run(self._cancel())

    async def _cancel(self) -> None:
        try:
            await self._service.CancelRun(CancelRunRequest(run_id=RUN), UNUSED)
        except LabelloopError:
            return  # the run is not known yet, or has ended


class Oracle(Member):
    def __init__(self, around: Surroundings, begin: Begin = LabelingState.begin) -> None:
        super().__init__(around, begin)
        log, dataset_cache = cast(Any, self), cast(Any, OneDataset())
        oracle = oracle_bootstrap.Oracle(
            log,
            Artifacts(around),
            dataset_cache,
            leases=UNUSED,
            dead_letters=UNUSED,
            projections=self.projections,
            owners=self.owners,
        )
        self._service = oracle.service()
        self.run(oracle.advance_runs())

    async def open_samples(self) -> list[int]:
        listed: ListOpenSamplesResponse = await self._service.ListOpenSamples(ListOpenSamplesRequest(), UNUSED)
        return [sample.sample_id for sample in listed.samples]

    def submit(self, request: SubmitLabelsRequest) -> None:
        self.run(self._submit(request))

    async def _submit(self, request: SubmitLabelsRequest) -> None:
        try:
            response = await self._service.SubmitLabels(request, UNUSED)
        except LabelloopError:
            return  # refused
        self.around.told(request, response)

    def skip(self, request: SkipSamplesRequest) -> None:
        self.run(self._skip(request))

    def say(self, request: SubmitResultsRequest) -> None:
        self.run(self._say(request))

    async def _say(self, request: SubmitResultsRequest) -> None:
        with suppress(LabelloopError):  # refused
            await self._service.SubmitResults(request, UNUSED)

    async def _skip(self, request: SkipSamplesRequest) -> None:
        with suppress(LabelloopError):  # refused
            await self._service.SkipSamples(request, UNUSED)


@dataclass(frozen=True)
class Write:
    """An append in progress. Nobody waits for it any more if ``heard`` is done."""

    event: Event
    heard: Any
