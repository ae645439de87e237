"""Which artifacts a deletion removes and which stay, however the runs share them and wherever it is cut short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.artifacts.archive_file import pack
from labelloop.artifacts.formats import PoolManifest, SampleIndex, Shard
from labelloop.artifacts.store import digest_of, missing
from labelloop.errors import Corrupt, NotFound, Unready, WrongState
from labelloop.eventlog.log import EventLog, Recorded
from labelloop.events.v1 import events_pb2 as pb
from labelloop_cli.operations.run_deletion import RunDeletion

from tests.bench.log_events import run_events
from tests.examples import examples

SAMPLES = 4
POOLS, MODELS = 3, 4


class Crash(BaseException):
    """A process that ends between two steps."""


class Steps:
    """Counts what changes something, and ends the process at the ``last`` of them."""

    def __init__(self) -> None:
        self.done, self.last = 0, -1

    def take(self) -> None:
        if self.done == self.last:
            raise Crash
        self.done += 1


class Store:
    """A store in memory, of which the artifacts ``read`` were read."""

    def __init__(self, steps: Steps) -> None:
        self.held: dict[str, bytes] = {}
        self._steps = steps

    def add(self, data: bytes) -> str:
        self.held[digest_of(data)] = data
        return digest_of(data)

    async def put(self, data: bytes) -> str:
        return self.add(data)

    async def get(self, digest: str) -> bytes:
        if digest not in self.held:
            raise missing(digest)
        return self.held[digest]

    async def remove(self, digest: str) -> bool:
        self._steps.take()
        return self.held.pop(digest, None) is not None

    async def listed(self) -> list[str]:
        return list(self.held)


class Log(EventLog):
    """A log in memory."""

    def __init__(self, steps: Steps) -> None:
        self.messages: dict[int, pb.Event] = {}
        self._last = 0
        self._steps = steps

    def write(self, event: pb.Event) -> int:
        self._last += 1
        self.messages[self._last] = event
        return self._last

    async def check_purge_allowed(self) -> None:
        """Allow it."""

    async def last_sequence(self) -> int:
        return self._last

    async def newest(self, run_id: str) -> int:
        return max((at for at, event in self.messages.items() if event.run_id == run_id), default=0)

    async def follow(self, subject: str = "", after: int = 0) -> AsyncIterator[Recorded]:  # type: ignore[override]
        for sequence, event in sorted(self.messages.items()):
            if sequence > after:
                yield Recorded(event, sequence)

    async def append_behind(self, event: pb.Event, last: int) -> Recorded | None:
        self._steps.take()
        if await self.newest(event.run_id) != last:
            return None
        return Recorded(event, self.write(event), ours=True)

    async def purge_archived(self, run_id: str, sequence: int) -> None:
        self._steps.take()
        self.messages = {at: event for at, event in self.messages.items() if event.run_id != run_id or at >= sequence}

    async def purge_void(self, run_id: str) -> None:
        self._steps.take()
        kept = ("run_archived", "run_deleted")
        self.messages = {
            at: event
            for at, event in self.messages.items()
            if event.run_id != run_id or event.WhichOneof("payload") in kept or at == self._last
        }


@dataclass
class World:
    """Runs and what they need.

    Attributes:
        needs: The artifacts of each run, its archives apart.
        archives: The artifacts with the events of each run.
    """

    steps: Steps = field(default_factory=Steps)
    needs: dict[str, set[str]] = field(default_factory=dict)
    archives: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log, self.store = Log(self.steps), Store(self.steps)
        self.pools = [self._pool(number) for number in range(POOLS)]
        self.models = [self.store.add(b"model %d" % number) for number in range(MODELS)]

    def _pool(self, number: int) -> tuple[str, set[str]]:
        """Store a pool whose first original is that of all pools; return its digest and all that it needs."""
        originals = [self.store.add(b"picture of all"), *(self.store.add(b"picture %d" % number) for _ in range(3))]
        index = self.store.add(SampleIndex(originals=tuple(originals)).to_bytes())
        shard = self.store.add(b"shard %d" % (number // 2))
        shards = (Shard(sha256=shard, sample_count=SAMPLES, index=index),)
        pool = self.store.add(PoolManifest(dtype="uint8", shape=(1, number + 1), shards=shards).to_bytes())
        return pool, {pool, shard, index, *originals}

    def start(self, run_id: str, pool: int, models: list[int], parent: str = "", *, ended: bool = True) -> None:
        digest, below = self.pools[pool]
        self.needs[run_id], self.archives[run_id] = {*below}, set()
        left = iter(models)
        for event in run_events(run_id, 3 * max(1, len(models)), 3, ended=ended):
            if event.HasField("run_started") and parent:
                inherited = self.models[models[-1] - 1]
                event.run_started.inheritance.run_id = parent
                event.run_started.inheritance.model_sha256 = inherited
                self.needs[run_id].add(inherited)
            if event.HasField("pool_published"):
                event.pool_published.pool_sha256 = digest
            if event.HasField("model_trained"):
                event.model_trained.model_sha256 = self.models[next(left)]
                self.needs[run_id].add(event.model_trained.model_sha256)
            self.log.write(event)

    def archive(self, run_id: str, *, purged: bool = True, stray: bool = False) -> None:
        events = [event for event in self.log.messages.values() if event.run_id == run_id]
        if stray:
            self.archives[run_id].add(self.store.add(pack(each.SerializeToString() for each in events[:-1])))
        digest = self.store.add(pack(each.SerializeToString() for each in events))
        self.archives[run_id].add(digest)
        pool = next(event.pool_published for event in events if event.HasField("pool_published"))
        facts = pb.RunArchived(
            archive_sha256=digest, event_count=len(events), last_sequence=1, pool=pool, model_sha256=""
        )
        at = self.log.write(pb.Event(run_id=run_id, run_archived=facts))
        if purged:
            self.log.messages = {
                key: event for key, event in self.log.messages.items() if event.run_id != run_id or key >= at
            }

    def needed(self, apart_from: set[str]) -> set[str]:
        left = self.needs.keys() - apart_from
        return {digest for run_id in left for digest in (*self.needs[run_id], *self.archives[run_id])}

    def deletion(self, *run_ids: str) -> RunDeletion:
        return RunDeletion(self.log, self.store, run_ids)

    async def delete(self, *run_ids: str) -> int:
        deletion = self.deletion(*run_ids)
        plan = await deletion.plan()
        await deletion.record("asked for")
        return await deletion.remove(plan.artifacts)

    def payloads(self, run_id: str) -> list[str | None]:
        return [event.WhichOneof("payload") for event in self.log.messages.values() if event.run_id == run_id]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[World, list[str]]:
    """Draw runs that share pools and models, and those to delete."""
    world, names = World(), [f"run-{number}" for number in range(draw(st.integers(1, 4)))]
    archived = []
    for number, name in enumerate(names):
        models = draw(st.lists(st.integers(0, MODELS - 1), min_size=1, max_size=2, unique=True))
        parent = names[number - 1] if number and draw(st.booleans()) else ""
        stays = number and draw(st.booleans())
        world.start(name, draw(st.integers(0, POOLS - 1)), models, parent, ended=not stays)
        if not stays:
            world.archive(name, purged=draw(st.booleans()), stray=draw(st.booleans()))
            archived.append(name)
    chosen = draw(st.lists(st.sampled_from(archived), min_size=1, unique=True))
    return world, chosen


def check(world: World, deleted: list[str], before: set[str]) -> None:
    needed, own = world.needed({*deleted}), set().union(*(world.needs[name] | world.archives[name] for name in deleted))
    assert world.store.held.keys() == before - (own - needed)
    for name in deleted:
        assert set(world.payloads(name)) == {"run_archived", "run_deleted"}


@given(worlds())
@settings(max_examples=examples(60), deadline=None)
def test_exactly_what_no_other_run_needs_is_removed(drawn: tuple[World, list[str]]) -> None:
    world, chosen = drawn
    before = {*world.store.held}
    removed = asyncio.run(world.delete(*chosen))
    check(world, chosen, before)
    assert removed == len(before) - len(world.store.held)


@given(worlds(), st.integers(0, 20))
@settings(max_examples=examples(60), deadline=None)
def test_wherever_it_is_cut_short_another_try_completes_it(drawn: tuple[World, list[str]], last: int) -> None:
    world, chosen = drawn
    before = {*world.store.held}
    world.steps.last = last
    try:
        asyncio.run(world.delete(*chosen))
    except Crash:
        assert world.needed({*chosen}) <= world.store.held.keys()
        if world.store.held.keys() != before:
            assert all("run_deleted" in world.payloads(name) for name in chosen)
        world.steps.last = -1
        asyncio.run(world.delete(*chosen))
    check(world, chosen, before)


async def test_a_plan_changes_nothing() -> None:
    world = World()
    world.start("r", 0, [0])
    world.archive("r")
    before, messages = {*world.store.held}, {**world.log.messages}
    plan = await world.deletion("r").plan()
    assert ({*world.store.held}, world.log.messages, world.steps.done) == (before, messages, 0)
    assert {*plan.artifacts} == world.needs["r"] | world.archives["r"]
    assert plan.events == {"r": 8}
    assert plan.artifacts[-1] in world.archives["r"]


async def test_a_run_that_is_not_archived_is_not_deleted() -> None:
    world = World()
    world.start("r", 0, [0])
    with pytest.raises(WrongState, match="labelloop run archive r") as caught:
        await world.deletion("r").plan()
    assert (caught.value.reason, caught.value.field) == ("RUN_NOT_ARCHIVED", "run_id")
    with pytest.raises(NotFound, match="there is no run"):
        await world.deletion("s").plan()


async def test_a_run_without_a_pool_and_an_import_hold_a_deletion_up() -> None:
    world = World()
    world.start("r", 0, [0])
    world.archive("r")
    world.log.write(next(run_events("new", 3, 3, ended=False)))
    with pytest.raises(Unready, match="no pool yet"):
        await world.deletion("r").plan()
    world.log.write(pb.Event(run_id="new", run_cancelled=pb.RunCancelled()))
    await world.deletion("r").plan()
    start = next(run_events("half", 3, 3, ended=False))
    start.run_started.imported.count, start.run_started.imported.sha256 = 1, "a" * 64
    world.log.write(start)
    with pytest.raises(Unready, match="labelloop run clear half"):
        await world.deletion("r").plan()
    world.log.write(pb.Event(run_id="half", import_cleared=pb.ImportCleared()))
    await world.deletion("r").plan()


async def test_what_another_run_needs_but_nobody_can_read_stops_a_deletion() -> None:
    world = World()
    for number, name in enumerate(("r", "other")):
        world.start(name, 2 * number, [number])
        world.archive(name)
    [digest] = world.archives["other"]
    archive = world.store.held.pop(digest)
    with pytest.raises(NotFound, match="'other' needs is not known"):
        await world.deletion("r").plan()
    world.store.held[digest] = archive
    del world.store.held[world.pools[2][0]]
    with pytest.raises(NotFound, match="nothing was removed"):
        await world.deletion("r").plan()


@pytest.mark.parametrize("digest", ["../../etc/passwd", "*", ">", "A" * 64])
async def test_an_archive_that_names_no_artifacts_removes_nothing_by_it(digest: str) -> None:
    world = World()
    for name in ("r", "other"):
        world.start(name, 0, [0])
        bad = next(event for event in world.log.messages.values() if event.run_id == name and event.round)
        bad.model_trained.model_sha256 = digest if name == "r" else bad.model_trained.model_sha256
        world.archive(name)
    plan = await world.deletion("r").plan()
    assert any("SHA-256" in note for note in plan.notes)
    assert digest not in plan.artifacts
    with pytest.raises(Corrupt, match="'r' needs is not known"):
        await world.deletion("other").plan()


async def test_what_a_run_comes_to_need_meanwhile_stays() -> None:
    world = World()
    world.start("r", 0, [0, 1])
    world.archive("r")
    deletion = world.deletion("r")
    plan = await deletion.plan()
    await deletion.record("")
    world.start("new", 0, [1], ended=False)
    await deletion.remove(plan.artifacts)
    assert world.needs["new"] <= world.store.held.keys()
    assert world.models[0] not in world.store.held


async def test_what_was_removed_at_the_moment_at_which_it_was_named_is_told() -> None:
    world = World()
    world.start("r", 0, [0, 1])
    world.archive("r")
    deletion = world.deletion("r")
    plan = await deletion.plan()
    await deletion.record("")
    turns, purge = count(), world.log.purge_void

    async def slow(run_id: str) -> None:
        if not next(turns):
            world.start("new", 0, [1], ended=False)
        await purge(run_id)

    world.log.purge_void = slow  # type: ignore[method-assign]
    with pytest.raises(Corrupt, match="restore it from a backup"):
        await deletion.remove(plan.artifacts)


async def test_an_event_that_comes_while_the_deletion_is_written_makes_it_try_later() -> None:
    world = World()
    world.start("r", 0, [0])
    world.archive("r")
    deletion = world.deletion("r")
    await deletion.plan()
    newest = world.log.newest

    async def behind(run_id: str) -> int:
        found = await newest(run_id)
        world.log.newest = newest  # type: ignore[method-assign]
        world.log.write(pb.Event(run_id="r", run_finished=pb.RunFinished()))
        return found

    world.log.newest = behind  # type: ignore[method-assign]
    with pytest.raises(Unready, match="try again later"):
        await deletion.record("")
    assert "run_deleted" not in world.payloads("r")
    await deletion.record("")
    assert "run_deleted" in world.payloads("r")


async def test_what_cannot_be_read_is_said() -> None:
    world = World()
    world.start("r", 0, [0])
    world.archive("r")
    world.store.held.pop(*world.archives["r"])
    plan = await world.deletion("r").plan()
    assert any("stays" in note for note in plan.notes)
    await world.delete("r")
    assert (await world.deletion("r").plan()).notes == []
