"""How the broker's error codes are handled, and how a write that races with another is repeated."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from labelloop.eventlog import retry
from labelloop.eventlog.broker_answers import BY_CODE, STORAGE_EXCEEDED, Handling, RefusedByBroker, handling_of
from labelloop.eventlog.conditional_publish import publish_once
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.retry import broker_is_away, retry_while_away
from labelloop.events.v1.events_pb2 import Event, RunFinished
from labelloop.runtime.backoff import Backoff
from nats.js.errors import APIError, BadRequestError, NotFoundError, ServerError, ServiceUnavailableError

IN_FLIGHT = BadRequestError(code=400, err_code=10164)
CATCHING_UP = ServiceUnavailableError(code=503, err_code=10163)
ANOTHER_FIRST = BadRequestError(code=400, err_code=10071)
UNKNOWN = 10_999


class Stream:
    """Answers publishes in turn: with an error, or with a sequence."""

    def __init__(self, *answers: APIError | int) -> None:
        self.answers, self.headers = list(answers), list[dict[str, str]]()

    async def publish(self, subject: str, data: bytes, headers: dict[str, str]) -> Any:
        self.headers.append(headers)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, APIError):
            raise answer
        return SimpleNamespace(seq=answer)


async def published(*answers: APIError | int) -> int | None:
    return await publish_once(cast(Any, Stream(*answers)), "subject", b"")


@pytest.mark.parametrize("undecided", [IN_FLIGHT, CATCHING_UP])
async def test_a_write_is_repeated_until_it_is_known_that_another_was_first(undecided: APIError) -> None:
    assert await published(undecided, undecided, undecided, ANOTHER_FIRST) is None


async def test_a_write_succeeds_if_the_other_one_in_flight_failed() -> None:
    assert await published(IN_FLIGHT, IN_FLIGHT, 7) == 7


async def test_each_try_expects_the_same_sequence() -> None:
    stream = Stream(IN_FLIGHT, IN_FLIGHT, 7)
    await publish_once(cast(Any, stream), "subject", b"", {"a": "b"})
    assert stream.headers == [{"a": "b", "Nats-Expected-Last-Subject-Sequence": "0"}] * 3


async def test_a_write_that_stays_undecided_counts_as_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_SOON", Backoff(0.001, 0.001))
    with pytest.raises(BadRequestError) as raised:
        await published(IN_FLIGHT)
    assert broker_is_away(raised.value)


async def test_the_first_pauses_are_milliseconds() -> None:
    pauses = [retry._SOON.pause_s(tries) for tries in range(1, retry._SOON_TRIES)]
    assert pauses[0] <= 0.01
    assert pauses[2] <= 0.05
    assert 2 < sum(pauses) < 5


@pytest.mark.parametrize(
    ("error", "handling"),
    [
        (ServiceUnavailableError(), Handling.WAIT),  # as nats-py raises it if nothing answers
        (ServiceUnavailableError(code=503, err_code=UNKNOWN), Handling.WAIT),
        (APIError(code=429, err_code=UNKNOWN), Handling.WAIT),
        (NotFoundError(code=404, err_code=UNKNOWN), Handling.ABSENT),
        (BadRequestError(code=400, err_code=UNKNOWN), Handling.FAULT),
        (ServerError(code=500, err_code=10009), Handling.WAIT),
        (ServiceUnavailableError(code=503, err_code=10036), Handling.REFUSED),
        (asyncio.CancelledError(), Handling.FAULT),
    ],
)
def test_codes_are_handled_by_the_list_and_others_by_their_class(error: BaseException, handling: Handling) -> None:
    assert handling_of(error) is handling


@pytest.mark.parametrize("code", [code for code, handling in BY_CODE.items() if handling is Handling.REFUSED])
async def test_what_the_broker_refuses_is_an_error_with_its_reason(code: int) -> None:
    async def work() -> None:
        raise BadRequestError(code=400, err_code=code, description="insufficient storage")

    with pytest.raises(RefusedByBroker, match=rf"insufficient storage \(code {code}\)") as raised:
        await retry_while_away(work)
    assert raised.value.reason == "REFUSED_BY_BROKER"
    assert raised.value.err_code == code


def test_storage_that_a_stream_would_reserve_is_refused() -> None:
    assert BY_CODE[STORAGE_EXCEEDED] is Handling.REFUSED


class NewLeader:
    """Refuses a write for an event that it has itself only when it is asked the second time; stands in for both the
    client and its JetStream."""

    is_connected = True

    def __init__(self, event: Event) -> None:
        self.event, self.reads = event, 0

    def jetstream(self, **_: object) -> NewLeader:
        return self

    async def publish(self, *_: object, **__: object) -> Any:
        raise ANOTHER_FIRST

    async def get_last_msg(self, *_: object) -> Any:
        self.reads += 1
        if self.reads == 1:
            raise NotFoundError(code=404, err_code=10037)
        return SimpleNamespace(seq=3, data=self.event.SerializeToString())


async def test_an_event_that_a_new_leader_has_yet_to_apply_is_read_again() -> None:
    theirs = Event(run_id="r", round=1, run_finished=RunFinished(reason="theirs"))
    ours = Event(run_id="r", round=1, run_finished=RunFinished(reason="ours"))
    recorded = await EventLog(cast(Any, NewLeader(theirs))).append_once(ours)
    assert (recorded.event, recorded.sequence, recorded.ours) == (theirs, 3, False)
