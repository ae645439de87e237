"""One run under one fault: it must end unaided, as the run without the fault ended, and its log must be valid."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from typing import Protocol as Interface

import grpc
from google.protobuf.message import Message
from labelloop.domain.run_end import RUN_ENDS
from labelloop.errors import LabelloopError
from labelloop.eventlog.subjects import STREAM
from labelloop.events.v1.events_pb2 import Event, LabelSource, Protocol, RunSpec
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1.trainer_pb2 import LabelRecord, ListLabelsRequest, StartRunRequest
from nats.errors import Error as NatsError
from nats.js.errors import ServiceUnavailableError

from tests.blobs import spec
from tests.chaos.complaints import LogReader
from tests.chaos.endings import Ending, Result, differences, ending_of, result_faults
from tests.chaos.invariants import faults as history_faults
from tests.chaos.log_watch import Seen
from tests.chaos.world import World
from tests.e2e.driving import start

WRITES = {
    "trainer": ("labels_requested", "model_trained", "samples_auto_labelled", "run_finished"),
    "oracle": ("pool_published", "label_provided"),
    "scorer": ("labels_requested", "samples_auto_labelled"),  # the trainer's, but only after a ranking
}
STALLED_S = 120.0  # without an event; the longest fault takes a fifth of it
_SETTLE_S = 0.05
EXPLAINED = frozenset({"run_held_up", "log_rolled_back"})  # with a reason that is no bug of ours


class Workforce(Interface):
    """Several annotators of a run."""

    def changes(self, world: World) -> dict[str, object]:
        """Return the changes to the spec of a run that asks them."""
        ...

    @property
    def calm(self) -> Workforce:
        """The same people without any fault of theirs."""
        ...

    @property
    def all_asked(self) -> bool:
        """Whether everybody is asked for every sample."""
        ...

    def order_faults(self, world: World, batches: Sequence[Sequence[int]]) -> list[str]:
        """Return why a run with these batches cannot be compared."""
        ...

    async def label(self, world: World, run_id: str, rng: random.Random, acknowledged: set[Result]) -> None:
        """Label the run until it ends, and note each result that was acknowledged."""
        ...


@dataclass(frozen=True)
class Fault:
    """``how`` says how it is caused; ``where`` names the world it needs; ``changes`` are made to the run's spec.

    ``explains`` are the events that services may log as errors meanwhile. ``workforces`` are several annotators who
    label the run meanwhile, of which the seed draws one; the run must end as a quiet run of the same people.
    """

    name: str
    how: str
    make: Callable[[Trial], Awaitable[None]]
    where: str = "plain"
    changes: dict[str, object] = field(default_factory=dict)
    explains: frozenset[str] = EXPLAINED
    workforces: tuple[Workforce, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """``recovery_s`` is the time from the fault's end to the next event of the services it had stopped."""

    fault: str
    seed: int
    violations: list[str]
    recovery_s: float | None


class Trial:
    """What a fault may use: the world, the run, a random generator, and a method to report its end."""

    def __init__(self, world: World, fault: Fault, seed: int, serial: int) -> None:
        self.world, self.fault, self.seed = world, fault, seed
        self.rng = random.Random(f"{fault.name} {seed}")
        self.run_id = f"t{serial}"
        self.workforce = self.rng.choice(fault.workforces) if fault.workforces else None
        asking = self.workforce.changes(world) if self.workforce else {}
        self.spec = _spec(world, seed, fault.changes | asking)
        self.acknowledged: dict[int, int] = {}
        self.results: set[Result] = set()
        self._logs = LogReader(world.services.values())
        self._recovering: tuple[float, int, tuple[str, ...]] | None = None

    async def reach(self, low: float = 0.05, high: float = 0.8) -> None:
        """Wait for a random moment between these shares of the labelling phase."""
        rounds = self.spec.label_budget // self.spec.batch_size
        number = int(rounds * self.rng.uniform(low, high))
        await self.world.watch.first(self.run_id, lambda seen: self._requested(seen, number))

    @staticmethod
    def _requested(seen: Seen, number: int) -> bool:
        return seen.kind == "labels_requested" and seen.event.round >= number

    async def over(self, *victims: str) -> None:
        """Record that the fault ends now: the victims' next event shows that they have recovered."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(_SETTLE_S)  # events written before are still arriving
        kinds = tuple(kind for victim in victims for kind in WRITES.get(victim.rstrip("2"), ()))
        self._recovering = (now, self.world.watch.last, kinds)

    async def next_event(self) -> None:
        """Wait for the run's first event after the fault's end."""
        assert self._recovering is not None, "the fault is over"
        after = self._recovering[1]
        await self.world.watch.first(self.run_id, lambda seen: seen.sequence > after)

    def recovery_s(self) -> float | None:
        if self._recovering is None:
            return None
        since_s, after, kinds = self._recovering
        later = (s for s in self.world.watch.runs[self.run_id] if s.sequence > after and (not kinds or s.kind in kinds))
        back = next(later, None)
        return back.at_s - since_s if back else None

    async def carry_out(self) -> Outcome:
        for service in self.world.services.values():
            service.restarts = 0
        calm = await self._calm()
        making = asyncio.ensure_future(self.fault.make(self))
        await asyncio.sleep(0)  # it inspects the processes before the run begins
        found: list[str] = []
        try:
            async with self.world.watch.progress(STALLED_S):
                request = StartRunRequest(run_id=self.run_id, spec=self.spec)
                await again_until_answered(self.world.clients.trainer.StartRun, request)
                await asyncio.gather(making, self._label())
                end = await self.world.watch.first(self.run_id, lambda seen: seen.kind in RUN_ENDS)
            found += await self._violations(calm, end.kind)
        except TimeoutError:
            found.append(f"(e) the run has come no further for {STALLED_S:.0f} s")
        except (AssertionError, grpc.aio.AioRpcError, LabelloopError, NatsError) as error:
            found.append(f"the trial came to no end: {error!r}")
        finally:
            making.cancel()
            await asyncio.gather(making, return_exceptions=True)
        return Outcome(self.fault.name, self.seed, found, self.recovery_s())

    async def _calm(self) -> list[str] | Ending:
        """Return how the run ends without the fault: its models or, with several annotators, all that they decide."""
        if self.workforce is None:
            return await calm_models(self.world, self.spec)
        return await calm_ending(self.world, self.spec, self.workforce)

    async def _label(self) -> None:
        if self.workforce:
            await self.workforce.label(self.world, self.run_id, self.rng, self.results)

    async def _violations(self, calm: list[str] | Ending, end: str) -> list[str]:
        subjects, events = await stored(self.world, self.run_id)
        found = [f"(c) {count} events under {name}" for name, count in subjects.items() if count > 1]
        found += [f"(c) {fault}" for fault in history_faults(events)]
        found += paid_faults(events)
        found += [f"(f) {line}" for line in self._logs.errors(self.fault.explains)]
        found += result_faults(events, self.results)
        records = await training_set(self.world, self.run_id)
        trained = {record.sample_id: record.label for record in records}
        lost = [sample_id for sample_id, label in self.acknowledged.items() if trained.get(sample_id) != label]
        lost += [e.label_provided.sample_id for e in events if _lost(e, trained)]
        found += [f"(a) the label of sample {sample_id} is lost" for sample_id in lost]
        if end != "run_finished":
            found.append(f"(e) the run ended as {end}")
        elif isinstance(calm, Ending):
            ended = ending_of(events, records, all_asked=calm.all_asked)
            found += [f"(d) {difference}" for difference in differences(calm, ended)]
        elif models(events) != calm:
            found.append("(d) another model came out than without the fault")
        return found


async def again_until_answered(call: Callable[..., Awaitable[Any]], request: Message) -> Any:
    """Repeat a call until it is answered, as clients do."""
    while True:
        try:
            return await call(request, wait_for_ready=True, timeout=20)
        except grpc.aio.AioRpcError as error:
            if error.code() not in {
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.CANCELLED,
                grpc.StatusCode.DEADLINE_EXCEEDED,
            }:
                raise


def _lost(event: Event, trained: dict[int, int]) -> bool:
    label = event.label_provided
    return event.HasField("label_provided") and trained.get(label.sample_id) != label.label


def _spec(world: World, seed: int, changes: dict[str, object]) -> RunSpec:
    """One of three kinds of spec, by the seed: twenty rounds of labels, then eight of auto-labels."""
    kinds: list[dict[str, object]] = [
        {"protocol": Protocol.PROTOCOL_PUBLISHED, "strategy": Strategy.STRATEGY_MARGIN},
        {"protocol": Protocol.PROTOCOL_HONEST, "strategy": Strategy.STRATEGY_ENTROPY},
        {"protocol": Protocol.PROTOCOL_PUBLISHED, "strategy": Strategy.STRATEGY_LEAST_CONFIDENCE, "seed": 8},
    ]
    sizes = {"batch_size": 2, "label_budget": 40, "auto_label_batch_size": 2, "auto_label_budget": 16}
    return spec(world.blobs, **(sizes | kinds[seed % len(kinds)] | changes))


async def calm_models(world: World, spec: RunSpec) -> list[str]:
    """Digests of the models of this spec's run without a fault, with labels from the dataset."""
    asked = RunSpec()
    asked.CopyFrom(spec)
    asked.label_source = LabelSource.LABEL_SOURCE_DATASET
    key = asked.SerializeToString(deterministic=True)
    if key not in world.calm:
        run_id = f"calm{len(world.calm)}"
        await start(world.clients, run_id, asked)
        async with world.watch.progress(STALLED_S):
            await world.watch.first(run_id, lambda seen: seen.kind in RUN_ENDS)
        world.calm[key] = models((await stored(world, run_id))[1])
        assert world.calm[key], "a run without models proves nothing"
    return world.calm[key]


async def calm_ending(world: World, spec: RunSpec, workforce: Workforce) -> Ending:
    """How this spec's run ends that the same people label without a fault.

    Raises AssertionError if the order of their answers decides it.
    """
    key = spec.SerializeToString(deterministic=True)
    if key not in world.calm_endings:
        run_id = f"calm{len(world.calm)}-{len(world.calm_endings)}"
        await start(world.clients, run_id, spec)
        async with world.watch.progress(STALLED_S):
            await workforce.calm.label(world, run_id, random.Random(0), set())
            end = await world.watch.first(run_id, lambda seen: seen.kind in RUN_ENDS)
        assert end.kind == "run_finished", f"a quiet run ends with {end.event}"
        records = await training_set(world, run_id)
        ending = ending_of((await stored(world, run_id))[1], records, all_asked=workforce.all_asked)
        assert ending.models, "a run without models proves nothing"
        assert not (found := await asyncio.to_thread(workforce.order_faults, world, ending.batches)), found
        world.calm_endings[key] = ending
    return world.calm_endings[key]


def models(events: list[Event]) -> list[str]:
    """Digests of a run's models, in order."""
    return [event.model_trained.model_sha256 for event in events if event.HasField("model_trained")]


def paid_faults(events: list[Event]) -> list[str]:
    """Differences between the samples that a finished run requested and paid for."""
    asked = Counter(sample_id for event in events for sample_id in event.labels_requested.sample_ids)
    paid = Counter(event.label_provided.sample_id for event in events if event.HasField("label_provided"))
    skipped = {event.sample_skipped.sample_id for event in events if event.HasField("sample_skipped")}
    found = [f"(b) sample {sample_id} was asked for {count} times" for sample_id, count in asked.items() if count > 1]
    found += [f"(b) sample {sample_id} was paid for {count} times" for sample_id, count in paid.items() if count > 1]
    if paid.keys() != asked.keys() - skipped or paid.keys() & skipped:
        found.append(f"(b) {len(asked)} samples were asked for, {len(paid)} paid for and {len(skipped)} skipped")
    return found


async def stored(world: World, run_id: str) -> tuple[dict[str, int], list[Event]]:
    """Read a run's message counts by subject and its events in order, without the project's log reader.

    A node that has just come back may not know its cluster's leader yet: it is asked again.
    """
    async with asyncio.timeout(STALLED_S):
        while True:
            try:
                return await _stored(world, run_id)
            except ServiceUnavailableError:
                await world.watch.news(_SETTLE_S)


async def _stored(world: World, run_id: str) -> tuple[dict[str, int], list[Event]]:
    js = world.client.jetstream(timeout=10)
    everything = f"labelloop.v1.{run_id}.>"
    subjects = (await js.stream_info(STREAM, subjects_filter=everything)).state.subjects or {}
    subscription = await js.subscribe(everything, stream=STREAM, ordered_consumer=True)
    try:
        messages = [await subscription.next_msg(timeout=10) for _ in range(sum(subjects.values()))]
    finally:
        await subscription.unsubscribe()
    return subjects, [Event.FromString(message.data) for message in messages]


async def training_set(world: World, run_id: str) -> list[LabelRecord]:
    """A run's labels as its trainer has them, once it too knows that the run has ended."""
    async for _ in world.clients.watch(run_id):
        pass
    answer = world.clients.trainer.ListLabels(ListLabelsRequest(run_id=run_id), wait_for_ready=True)
    return [record async for part in answer for record in part.labels]
