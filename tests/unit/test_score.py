"""Order and refusal of scoring requests, and the model that a scorer serves for a run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, NoReturn, cast

import grpc
import numpy as np
import pytest
from labelloop.errors import Corrupt, LabelloopError, LimitExceeded, NotFound, WrongState
from labelloop.eventlog.log import EventLog, Recorded
from labelloop.events.v1.events_pb2 import (
    Event,
    Inheritance,
    LabelsRequested,
    ModelTrained,
    PoolPublished,
    RunArchived,
    RunCancelled,
    RunDeleted,
    RunStarted,
)
from labelloop.runtime import waiting
from labelloop.runtime.async_cache import AsyncCache
from labelloop.scorer.v1 import scorer_pb2 as pb
from numpy.typing import NDArray

from scorer_svc.models.model import Model
from scorer_svc.models.warmup import ModelWarmup
from scorer_svc.scoring.admission import Backlog
from scorer_svc.scoring.score import Scoring
from scorer_svc.service import ScorerService
from tests.patience import PATIENCE_S
from tests.unused import UNUSED

FEATURES = 784
SMALL = pb.ScoreRequest(dtype="uint8", images=bytes(FEATURES))
LARGE = pb.ScoreRequest(dtype="uint8", images=bytes(1_000 * FEATURES))


class Slow:
    """A model that blocks if called in a worker thread, and records the number of images of each call."""

    dtype, class_count, feature_count, work = "uint8", 2, FEATURES, 20 * FEATURES
    takes_missing = False

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.begun, self.released = threading.Event(), threading.Event()

    def is_open_for(self, dtype: str) -> bool:
        return dtype == self.dtype

    def classify(self, images: NDArray[Any]) -> NDArray[np.float32]:
        self.asked.append(len(images))
        if threading.current_thread() is not threading.main_thread():
            self.begun.set()
            assert self.released.wait(PATIENCE_S)
        return np.full((len(images), 2), 0.5, np.float32)


@pytest.fixture
def model() -> Iterator[Slow]:
    made = Slow()
    yield made
    made.released.set()


@pytest.fixture
def scoring(model: Slow) -> Iterator[Scoring]:
    with ThreadPoolExecutor(1) as executor:
        yield Scoring(executor)
        model.released.set()


def test_accepted_work_counts_as_backlog_until_it_is_done() -> None:
    backlog = Backlog()
    backlog.note(1, 1e-3)
    pace_s = backlog_delay_s(backlog, 100) / 100
    assert 0 < pace_s < 1e-3
    assert backlog.delay_s == 0


def backlog_delay_s(backlog: Backlog, values: int) -> float:
    with backlog.taken(values):
        return backlog.delay_s


def test_the_estimated_pace_approaches_the_measured_one() -> None:
    backlog = Backlog()
    for _ in range(100):
        backlog.note(1_000, 1.0)
    assert backlog_delay_s(backlog, 1) == pytest.approx(1e-3)


def test_work_that_would_wait_too_long_is_refused_until_the_backlog_shrinks() -> None:
    backlog = Backlog()
    with ExitStack() as taken:
        for _ in range(11):  # more than 0.1 s at the initially assumed pace
            taken.enter_context(backlog.taken(100_000_000))
        with pytest.raises(LimitExceeded) as caught:
            taken.enter_context(backlog.taken(1))
        assert caught.value.reason == "OVERLOADED"
        assert caught.value.retry_after_s == backlog.delay_s > 0
    with backlog.taken(100_000_000):
        pass


async def test_a_small_request_does_not_wait_for_a_large_one(scoring: Scoring, model: Slow) -> None:
    large = asyncio.create_task(scoring.score(LARGE, model, "m"))
    await asyncio.to_thread(model.begun.wait, 10)
    assert len((await scoring.score(SMALL, model, "m")).predicted) == 1
    assert not large.done()
    model.released.set()
    assert len((await large).predicted) == 1_000


async def test_a_request_cancelled_before_its_turn_is_not_computed(scoring: Scoring, model: Slow) -> None:
    first = asyncio.create_task(scoring.score(LARGE, model, "m"))
    await asyncio.to_thread(model.begun.wait, 10)
    late = asyncio.create_task(scoring.score(LARGE, model, "m"))
    await asyncio.sleep(0)  # it waits in the queue now
    late.cancel()
    await asyncio.wait([late])  # its place in the queue is given up
    model.released.set()
    await first
    await scoring.score(LARGE, model, "m")  # queued last
    assert late.cancelled()
    assert model.asked == [1_000, 1_000]


async def test_large_requests_are_refused_at_once_under_overload_and_accepted_after(
    scoring: Scoring, model: Slow
) -> None:
    calls = [asyncio.create_task(scoring.score(LARGE, model, "m")) for _ in range(1_000)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
    refused = [call for call in calls if call.done()]
    assert {cast(LabelloopError, call.exception()).reason for call in refused} == {"OVERLOADED"}
    model.released.set()
    answers = await asyncio.gather(*(call for call in calls if call not in refused))
    assert answers
    assert await scoring.score(LARGE, model, "m") == answers[0]


async def test_a_model_that_takes_much_for_one_image_does_not_hold_others_up(scoring: Scoring, model: Slow) -> None:
    heavy = Slow()
    heavy.work = 1_000_000_000
    large = asyncio.create_task(scoring.score(SMALL, heavy, "heavy"))
    await asyncio.to_thread(heavy.begun.wait, PATIENCE_S)
    assert len((await scoring.score(SMALL, model, "m")).predicted) == 1
    assert not large.done()
    heavy.released.set()
    assert len((await large).predicted) == 1


async def test_a_session_for_another_type_is_opened_off_the_event_loop(scoring: Scoring, model: Slow) -> None:
    floats = pb.ScoreRequest(dtype="float32", images=bytes(4 * FEATURES))
    call = asyncio.create_task(scoring.score(floats, model, "m"))
    assert await asyncio.to_thread(model.begun.wait, PATIENCE_S)  # in another thread
    model.released.set()
    await call


class Late:
    """The context of a call whose deadline has passed."""

    def time_remaining(self) -> float:
        return 0.0

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise RuntimeError(code.name)


async def test_a_call_whose_deadline_has_passed_is_not_started(scoring: Scoring) -> None:
    service = ScorerService(UNUSED, UNUSED, UNUSED, UNUSED, UNUSED, scoring, UNUSED, 1, UNUSED)
    with pytest.raises(RuntimeError, match="DEADLINE_EXCEEDED"):
        await service.Score(SMALL, cast(Any, Late()))


class Log:
    """The event log of a run, written by a test."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Recorded] = asyncio.Queue()
        self._count = 0

    def write(self, round_: int = 0, **payload: Any) -> None:
        self._count += 1
        event = Event(run_id="r", round=round_, **payload)
        self._events.put_nowait(Recorded(event, self._count, data=event.SerializeToString()))

    def write_round(self, number: int, model: str) -> None:
        """Write a requested and provided label, and the model fitted to it."""
        self.write(number - 1, labels_requested=LabelsRequested(sample_ids=[number], score=[0.0]))
        self.write(number - 1, label_provided={"sample_id": number, "label": 0})
        self.write(number, model_trained=ModelTrained(model_sha256=model, labels=number))

    async def last_sequence(self) -> int:
        return self._count

    async def follow(self, after: int = 0) -> AsyncIterator[Recorded]:
        assert after == 0
        while True:
            yield await self._events.get()


class Store:
    """Models by digest; loading one waits for its gate."""

    def __init__(self) -> None:
        self.gates = {digest: asyncio.Event() for digest in "abc"}
        self.loads: asyncio.Queue[str] = asyncio.Queue()
        self.broken: set[str] = set()

    async def load(self, digest: str) -> str:
        self.loads.put_nowait(digest)
        await self.gates[digest].wait()
        if digest in self.broken:
            raise Corrupt("BAD", digest)
        return digest


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def newest(log: Log, store: Store) -> AsyncIterator[ModelWarmup]:
    made = ModelWarmup(cast(EventLog, log), cast(AsyncCache[str, Model], AsyncCache(store.load, kept=9)))
    tasks = [asyncio.create_task(made.follow()), asyncio.create_task(made.warm())]
    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def begin(log: Log, taken_over: str = "") -> None:
    log.write(run_started=RunStarted(inheritance=Inheritance(model_sha256=taken_over)))
    pool = PoolPublished(sample_count=99, classes=["x", "y"], shape=[1], dtype="uint8")
    log.write(pool_published=pool)


async def serves(newest: ModelWarmup, digest: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while newest.digest("r") != digest:  # noqa: ASYNC110 - other tasks change it, which set no event
            await asyncio.sleep(0)


async def test_an_unknown_run_and_a_run_without_a_model_are_not_found(newest: ModelWarmup, log: Log) -> None:
    with pytest.raises(NotFound) as unknown:
        newest.digest("r")
    begin(log)
    await newest.catch_up()
    with pytest.raises(NotFound) as without:
        newest.digest("r")
    assert (unknown.value.reason, without.value.reason) == ("UNKNOWN_RUN", "NO_MODEL_YET")


async def test_a_deleted_run_has_no_model_that_answers(newest: ModelWarmup, log: Log) -> None:
    begin(log, "a" * 64)
    log.write(run_cancelled=RunCancelled(reason="enough"))
    facts = RunArchived(archive_sha256="b" * 64, event_count=3, last_sequence=3, model_sha256="a" * 64)
    log.write(run_archived=facts)
    await newest.catch_up()
    assert newest.digest("r") == "a" * 64
    log.write(run_deleted=RunDeleted())
    await newest.catch_up()
    with pytest.raises(WrongState) as deleted:
        newest.digest("r")
    assert deleted.value.reason == "RUN_DELETED"


async def test_a_run_keeps_its_model_until_the_next_one_is_in_memory(
    newest: ModelWarmup, log: Log, store: Store
) -> None:
    store.gates["a"].set()
    begin(log)
    log.write_round(1, "a")
    await newest.catch_up()
    await serves(newest, "a")
    log.write_round(2, "b")
    while await store.loads.get() != "b":
        pass
    assert newest.digest("r") == "a"
    store.gates["b"].set()
    await serves(newest, "b")


async def test_a_model_that_cannot_be_loaded_holds_up_its_run_until_it_can(
    newest: ModelWarmup, log: Log, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorer_svc.models.warmup._AGAIN_S", 0.01)
    store.gates["a"].set()
    store.broken.add("a")
    begin(log)
    log.write_round(1, "a")
    async with asyncio.timeout(PATIENCE_S):
        while not newest.hold_ups():  # noqa: ASYNC110 - other tasks change it, which set no event
            await asyncio.sleep(0)
        [held_up] = newest.hold_ups()
        assert (held_up.service, held_up.run_id) == ("scorer", "r")
        assert held_up.problem == "the run's model answers no request: a"
        store.broken.clear()
        while newest.hold_ups():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_what_a_scorer_waits_for_holds_up_the_runs_that_do_not_wait_for_labels(
    newest: ModelWarmup, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SAY_AFTER_S", 0.0)
    begin(log)
    await newest.catch_up()
    assert newest.hold_ups() == []
    with waiting.waiting("the artifact store") as wait:
        wait.problem = "it is full"
        [held_up] = newest.hold_ups()
        assert (held_up.run_id, held_up.problem) == ("r", "waits for the artifact store: it is full")
        assert newest.hold_ups() == [held_up], "it began once"
        log.write(labels_requested=LabelsRequested(sample_ids=[1], score=[0.0]))
        await newest.catch_up()
        assert newest.hold_ups() == []


async def test_a_scorer_is_not_ready_before_it_holds_the_models_of_unfinished_runs(
    newest: ModelWarmup, log: Log, store: Store
) -> None:
    begin(log)
    log.write_round(1, "a")
    catching_up = asyncio.create_task(newest.catch_up())
    assert await store.loads.get() == "a"
    assert not catching_up.done()
    store.gates["a"].set()
    await catching_up
    assert newest.digest("r") == "a"


async def test_an_inherited_model_serves_until_the_runs_first_model_is_loaded(
    newest: ModelWarmup, log: Log, store: Store
) -> None:
    store.gates["a"].set()
    begin(log, taken_over="a")
    await newest.catch_up()
    assert await store.loads.get() == "a"
    assert newest.digest("r") == "a"
    log.write_round(1, "b")
    assert await store.loads.get() == "b"
    assert newest.digest("r") == "a"
    store.gates["b"].set()
    await serves(newest, "b")


async def test_a_model_that_cannot_be_loaded_becomes_current_to_show_its_error(
    newest: ModelWarmup, log: Log, store: Store
) -> None:
    store.gates["a"].set()
    store.gates["b"].set()
    store.broken.add("b")
    store.gates["a"].set()
    begin(log, taken_over="a")
    await newest.catch_up()
    assert await store.loads.get() == "a"
    log.write_round(1, "b")
    await serves(newest, "b")


async def test_models_from_invalid_events_or_after_the_runs_end_are_ignored(newest: ModelWarmup, log: Log) -> None:
    begin(log, taken_over="a")
    log.write(1, model_trained=ModelTrained(model_sha256="b", labels=7))
    log.write(run_cancelled={})
    log.write_round(1, "c")
    await newest.catch_up()
    assert newest.digest("r") == "a"
