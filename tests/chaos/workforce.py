"""Three annotators who label a run through the oracle's calls, with the habits of people."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import grpc
import numpy as np
from labelloop.domain.run_end import RUN_ENDS
from labelloop.errors import from_rpc
from labelloop.events.v1.events_pb2 import Event, LabelSource, SkipKind
from labelloop.oracle.v1.oracle_pb2 import (
    LabelRequest,
    LabelResult,
    LeaseNextRequest,
    LeaseNextResponse,
    SubmitResultsRequest,
)

from tests.blobs import CLASSES
from tests.chaos.endings import Result, outcomes
from tests.chaos.people import PEOPLE, Person, Rule, Said, differed_on, order_faults
from tests.chaos.trial import again_until_answered
from tests.chaos.world import World

LOOK_AGAIN_S = 0.05
_AT_ONCE = 2
_ROUNDS = 20
_NOT_YET = {  # the oracle has not read the run's events yet, or the run has just ended
    "UNKNOWN_RUN",
    "NOT_ASKED_FOR",
    "POOL_MISSING",
    "RUN_OVER",
}
_STRANGER = "gone"
_BRIEF_LEASE_S = 1
_DISPUTED_MIN = 3


@dataclass(frozen=True)
class Habits:
    """What annotators do that nobody asks of them.

    Attributes:
        tabs: Browser tabs of each, which ask and answer at the same time.
        times: How often each result is sent at once; if more than once, it is sent once more when it was acknowledged.
        late: Whether they send results for samples that are settled, also for those for which they were not asked.
        vanishing: Whether somebody takes requests of each round and is never heard of again.
    """

    tabs: int = 1
    times: int = 1
    late: bool = False
    vanishing: bool = False


@dataclass(frozen=True)
class ThreePeople:
    """Three annotators who label a run over LeaseNext and SubmitResults."""

    rule: Rule
    habits: Habits = Habits()

    @property
    def calm(self) -> ThreePeople:
        return replace(self, habits=Habits())

    @property
    def all_asked(self) -> bool:
        return self.rule.annotators == len(PEOPLE)

    def changes(self, world: World) -> dict[str, object]:
        sizes = {"batch_size": self.rule.batch_size, "label_budget": _ROUNDS * self.rule.batch_size}
        queue = self.rule.queue(np.load(world.blobs.labels).tolist())
        return {"label_source": LabelSource.LABEL_SOURCE_QUEUE, "queue": queue, **sizes}

    def order_faults(self, world: World, batches: Sequence[Sequence[int]]) -> list[str]:
        says = Says(world)
        found = order_faults(self.rule, batches, says, {each: says.truth[each] for each in range(self.rule.gold)})
        if len(differed_on(batches, says)) < _DISPUTED_MIN:
            found.append("annotators hardly ever differ")
        return found

    async def label(self, world: World, run_id: str, rng: random.Random, acknowledged: set[Result]) -> None:
        campaign = Campaign(world, run_id, self.rule, self.habits, acknowledged)
        async with asyncio.TaskGroup() as tasks:
            if self.habits.vanishing:
                tasks.create_task(campaign.vanish())
            people = rng.sample(PEOPLE, len(PEOPLE))
            if self.rule.gold_first:
                await campaign.answer_gold(people)
            for person in people * self.habits.tabs:
                tasks.create_task(campaign.work(person))


class Says:
    """What the person of a name says of a sample."""

    def __init__(self, world: World) -> None:
        self.truth: list[int] = np.load(world.blobs.labels).tolist()
        self._people = {person.name: person for person in PEOPLE}

    def __call__(self, name: str, sample_id: int) -> Said:
        return self._people[name].says(sample_id, self.truth[sample_id], CLASSES)


@dataclass
class Campaign:
    """One run, and those who label it."""

    world: World
    run_id: str
    rule: Rule
    habits: Habits
    acknowledged: set[Result]

    def __post_init__(self) -> None:
        self.says = Says(self.world)

    @property
    def events(self) -> list[Event]:
        return [seen.event for seen in self.world.watch.runs[self.run_id]]

    def over(self) -> bool:
        return any(event.WhichOneof("payload") in RUN_ENDS for event in self.events)

    async def work(self, person: Person) -> None:
        """Answer what is asked until the run ends."""
        while not self.over():
            if self.habits.late:
                await self._answer_late(person)
            requests = await self._lease(person.name, _AT_ONCE, 0)
            for request in requests:
                await self._answer(person, request.request_id, request.sample_id)
            if not requests:
                await self.world.watch.news(LOOK_AGAIN_S)

    async def vanish(self) -> None:
        """Take requests of each round and never answer them: others are asked once the leases have expired."""
        taken, round_ = 0, -1
        while not self.over():
            newest = max((e.round for e in self.events if e.HasField("labels_requested")), default=-1)
            if newest > round_:
                taken += len(await self._lease(_STRANGER, _AT_ONCE + 1, _BRIEF_LEASE_S))  # one of them is a gold sample
                round_ = newest
            await self.world.watch.news(LOOK_AGAIN_S)
        assert taken, "nobody vanished with a request"

    async def answer_gold(self, people: Sequence[Person]) -> None:
        """Answer all gold samples, which others do in the course of their work."""
        await self.world.watch.first(self.run_id, lambda seen: seen.kind == "pool_published")
        for person in people:
            results = [self.result(person, f"{self.run_id}/0/{each}", each) for each in range(self.rule.gold)]
            while not await self._submit(person, results):
                await self.world.watch.news(LOOK_AGAIN_S)

    async def _lease(self, annotator: str, count: int, lease_s: int) -> list[LabelRequest]:
        request = LeaseNextRequest(run_id=self.run_id, annotator=annotator, count=count, lease_s=lease_s)
        try:
            answer: LeaseNextResponse = await again_until_answered(self.world.clients.oracle.LeaseNext, request)
        except grpc.aio.AioRpcError as error:
            _check_not_yet(error)
            return []
        return list(answer.requests)

    async def _answer(self, person: Person, request_id: str, sample_id: int) -> None:
        result = self.result(person, request_id, sample_id)
        await asyncio.gather(*(self._submit(person, [result]) for _ in range(self.habits.times)))
        if self.habits.times > 1:
            await self._submit(person, [result])

    async def _answer_late(self, person: Person) -> None:
        """Send results for all settled samples anew, or for the first time."""
        rounds = {sample_id: e.round for e in self.events for sample_id in e.labels_requested.sample_ids}
        results = [self.result(person, f"{self.run_id}/{rounds[each]}/{each}", each) for each in outcomes(self.events)]
        if results:
            await self._submit(person, results)

    async def _submit(self, person: Person, results: list[LabelResult]) -> bool:
        """Send results until there is a response; return whether they were taken."""
        request = SubmitResultsRequest(results=results)
        try:
            await again_until_answered(self.world.clients.oracle.SubmitResults, request)
        except grpc.aio.AioRpcError as error:
            _check_not_yet(error)
            return False
        for result in results:
            sample_id = int(result.request_id.split("/")[2])
            self.acknowledged.add((person.name, sample_id, self.says(person.name, sample_id)))
        return True

    def result(self, person: Person, request_id: str, sample_id: int) -> LabelResult:
        said = self.says(person.name, sample_id)
        result = LabelResult(request_id=request_id, annotator=person.name)
        if said is None:
            result.skip = SkipKind.SKIP_KIND_SKIPPED
        else:
            result.label = said
        return result


def _check_not_yet(error: grpc.aio.AioRpcError) -> None:
    """Raise the error unless what was asked will be possible later, or the run has ended."""
    known = from_rpc(error)
    if known is None or known.reason not in _NOT_YET:
        raise error
