"""What is waited for is said after some seconds: in the log, as a metric and as the problem of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

import pytest
from labelloop.domain.run_owners import RunOwners
from labelloop.eventlog import waiting
from labelloop.eventlog.broker_answers import StoresNothing, problem_of
from labelloop.eventlog.conditional_publish import publish_once
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.reconciler import reconcile
from labelloop.eventlog.retry import retry_while_away
from labelloop.eventlog.streams import events, leases, stream_of
from labelloop.events.v1.events_pb2 import Event
from labelloop.runtime.backoff import Backoff
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import APIError, ServiceUnavailableError
from structlog.testing import capture_logs

from tests.integration.one_oracle import until

FULL = ServiceUnavailableError(code=503, err_code=10077, description="insufficient storage resources")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(waiting, "SAY_AFTER_S", 0.05)
    monkeypatch.setattr("labelloop.eventlog.retry._BACKOFF", Backoff(0.01, 0.01))
    with capture_logs():
        yield


class Broker:
    """Fails with ``error`` until :meth:`mend` is called."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error

    async def work(self) -> str:
        if self.error:
            raise self.error
        return "done"

    def mend(self) -> None:
        self.error = None


async def said_by(told: list[str]) -> str:
    await until(lambda: any(told))
    return next(filter(None, told))


async def test_a_run_says_what_it_waits_for_and_stops_saying_so() -> None:
    broker, told = Broker(FULL), list[str]()
    with capture_logs() as logs:
        waiting.tell_waits_to(told.append)
        task = asyncio.create_task(retry_while_away(broker.work))
        said = await said_by(told)
        assert "waits for the broker: its disk or its store is full" in said
        assert "restarted" in said
        assert waiting.WAITS.oldest_s()["the broker"] >= 0.05
        broker.mend()
        assert await task == "done"
    assert told[-1] == ""
    assert "the broker" not in waiting.WAITS.oldest_s()
    assert [entry["event"] for entry in logs] == ["waiting", "waiting_over"]


async def test_many_waits_for_one_thing_are_one_line_of_the_log() -> None:
    broker = Broker(NatsTimeoutError())
    with capture_logs() as logs:
        tasks = [asyncio.create_task(retry_while_away(broker.work)) for _ in range(20)]
        await asyncio.sleep(0.2)
        broker.mend()
        await asyncio.gather(*tasks)
    assert [entry["event"] for entry in logs] == ["waiting", "waiting_over"]
    assert logs[0]["problem"] == "it does not answer"


async def test_a_short_wait_is_not_said() -> None:
    broker, told = Broker(NatsTimeoutError()), list[str]()
    waiting.tell_waits_to(told.append)
    with capture_logs() as logs:
        task = asyncio.create_task(retry_while_away(broker.work))
        await asyncio.sleep(0)
        broker.mend()
        await task
    assert (told, logs) == ([], [])


async def test_a_changed_problem_is_said_again() -> None:
    broker, told = Broker(NatsTimeoutError()), list[str]()
    waiting.tell_waits_to(told.append)
    task = asyncio.create_task(retry_while_away(broker.work, what="the artifact store"))
    await said_by(told)
    broker.error = FULL
    await until(lambda: "full" in told[-1])
    assert told[0] == "waits for the artifact store: it does not answer"
    broker.mend()
    await task


class StubRun:
    run_log: Any = None
    over, round = False, 0

    def apply(self, event: Event, at: datetime) -> None:
        """Do nothing."""


async def test_the_status_of_a_run_names_the_broker_that_it_waits_for() -> None:
    projections: RunProjections[Any] = RunProjections(lambda event, at: StubRun())
    projections.runs["r"] = StubRun()
    broker = Broker(StoresNothing())

    async def advance(run_id: str) -> None:
        await retry_while_away(broker.work)

    task = asyncio.create_task(reconcile(projections, advance, RunOwners()))
    await until(lambda: bool(projections.problems.get("r")))
    assert "waits for the broker: it answers but stores nothing" in projections.problems["r"]
    assert projections.held_up() == ["r"]
    broker.mend()
    await until(lambda: not projections.problems["r"])
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_run_that_waits_for_its_own_event_says_so() -> None:
    projections: RunProjections[Any] = RunProjections(lambda event, at: StubRun())
    told = list[str]()
    waiting.tell_waits_to(told.append)
    task = asyncio.create_task(projections.wait_for(7))
    assert await said_by(told) == "waits for the broker: event 7 has not arrived yet"
    projections.apply(Recorded(None, 7))
    await task


class Deaf:
    """A broker that answers no write; ``answers`` says whether it answers other requests."""

    def __init__(self, *, answers: bool) -> None:
        self._answers, self.asked = answers, list[str]()

    async def publish(self, *arguments: Any, **options: Any) -> Any:
        raise NatsTimeoutError

    async def stream_info(self, stream: str) -> Any:
        self.asked.append(stream)
        if not self._answers:
            raise NatsTimeoutError


@pytest.mark.parametrize(("answers", "error"), [(True, StoresNothing), (False, NatsTimeoutError)])
async def test_a_broker_that_answers_but_stores_nothing_is_told_from_one_that_is_away(
    answers: bool, error: type[Exception]
) -> None:
    """As nats-server 2.15.1 does after its disk was full, until it is restarted."""
    deaf = Deaf(answers=answers)
    with pytest.raises(error) as raised:
        await publish_once(cast(Any, deaf), "labelloop.v1.r.0.label.7.0", b"")
    assert deaf.asked == [events().name]
    assert ("restart the broker" in problem_of(raised.value)) == answers


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NatsTimeoutError(), "it does not answer"),
        (ConnectionRefusedError("refused"), "refused"),
        (FULL, "full"),
        (ServiceUnavailableError(code=503, err_code=10076), "switched itself off"),
        (ServiceUnavailableError(code=503, err_code=10008), "no node leads"),
        (APIError(), "JetStream is off"),
    ],
)
def test_each_cause_of_a_wait_is_said_in_words(error: Exception, said: str) -> None:
    assert said in problem_of(error)


def test_every_subject_leads_to_its_stream() -> None:
    assert stream_of("labelloop.v1.r.0.label.7.0") == events().name
    assert stream_of("labelloop-leases.v1.r.0.7.0") == leases().name
    assert stream_of("$O.labelloop-artifacts.C.x") == "OBJ_labelloop-artifacts"
    assert stream_of("elsewhere") == ""
