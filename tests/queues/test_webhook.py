"""The webhook integration: requests and results over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from time import monotonic, time
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import ParseDict
from labelloop.errors import Unready, WrongState
from labelloop.oracle.v1.oracle_pb2 import LabelRequest
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.responses import Response

from oracle_svc.integrations.base import Called, RecordStatus
from oracle_svc.integrations.webhook.integration import Webhook, from_environment
from oracle_svc.integrations.webhook.sender import retry_after_s
from oracle_svc.integrations.webhook.signatures import SeenMessages
from tests.patience import PATIENCE_S
from tests.queues.fake_intake import FakeIntake
from tests.queues.http_server import served
from tests.queues.large_samples import fetched, shown_large_samples
from tests.queues.message_contract import PNG, ids, push_at_last, requests, result, retractions, serving
from tests.queues.webhook_tool import WebhookTool, new_id, new_secret, webhook_tool


@pytest.fixture
async def tool() -> AsyncIterator[WebhookTool]:
    async with webhook_tool() as tool:
        yield tool


@pytest.fixture
async def queue(tool: WebhookTool) -> AsyncIterator[Webhook]:
    """The integration, with its routes on a port that the tool knows."""
    queue = Webhook(tool.url, [tool.secret], timeout_s=2.0)
    assert isinstance(queue, Called)
    async with served(Starlette(routes=queue.routes())) as port:
        tool.send_to(f"http://127.0.0.1:{port}")
        yield queue


def submitted(*results: Any, kind: str = "label.submitted") -> str:
    return json.dumps({"type": kind, "data": {"results": results}})


async def wait_served(tool: WebhookTool) -> None:
    """Wait until results are accepted: ``serve`` starts after its task is created."""
    await tool.answer(result("run-1/2/999/0"))


# Requests


async def test_requests_arrive_complete_in_order_and_at_most_100_per_message(queue: Webhook, tool: WebhookTool) -> None:
    asked = requests(250)
    await queue.push(asked)
    found = await tool.requests()
    assert [ParseDict(each, LabelRequest()) for each in found] == asked
    assert base64.b64decode(found[0]["content"]) == PNG
    assert [len(message.said["data"]["requests"]) for message in tool.messages] == [100, 100, 50]
    assert {message.said["type"] for message in tool.messages} == {"labels.requested"}


async def test_a_large_sample_comes_as_a_link(queue: Webhook, tool: WebhookTool, tmp_path: Path) -> None:
    async with shown_large_samples(tmp_path) as (linked, _, content):
        await queue.push([linked])
        [found] = await tool.requests()
        assert "content" not in found
        assert await fetched(found) == content


async def test_requests_are_signed_as_standard_webhooks_specifies(queue: Webhook, tool: WebhookTool) -> None:
    await queue.push(requests(1))
    (message,) = tool.messages
    at = message.headers["webhook-timestamp"]
    key = base64.b64decode(tool.secret.removeprefix("whsec_"))
    expected = hmac.digest(key, f"{message.id}.{at}.".encode() + message.body, hashlib.sha256)
    assert message.headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()
    assert abs(int(at) - time()) < 60
    assert message.headers["content-type"] == "application/json"


async def test_only_equal_batches_have_equal_message_ids(queue: Webhook, tool: WebhookTool) -> None:
    await queue.push(requests(3))
    await queue.push(requests(3))
    await queue.push(requests(2))
    first, again, other = (message.id for message in tool.messages)
    assert first == again != other
    assert len(await tool.requests()) == 3 + 2, "the tool tells a repeated message by its id"


async def test_retracted_requests_are_sent_to_the_tool_in_batches(queue: Webhook, tool: WebhookTool) -> None:
    await queue.retract(retractions(requests(120)))
    assert tool.retracted == ids(requests(120))
    assert [message.said["type"] for message in tool.messages] == ["labels.retracted"] * 2


async def test_another_retraction_of_a_request_has_another_id(queue: Webhook, tool: WebhookTool) -> None:
    [asked] = requests(1)
    await queue.retract(retractions([asked]))
    await queue.retract(retractions([asked]))
    asked.attempt = 1
    await queue.retract(retractions([asked]))
    asked.next_revision = 2
    await queue.retract(retractions([asked]))
    first, again, attempt, revision = (message.id for message in tool.messages)
    assert first == again
    assert len({first, attempt, revision}) == 3
    assert tool.messages[-1].said["data"] == {
        "retractions": [{"request_id": asked.request_id, "run_id": "run-1", "attempt": 1, "next_revision": 2}],
        "request_ids": [asked.request_id],
    }


@pytest.mark.parametrize("status", [400, 404, 405, 410, 422])
async def test_a_receiver_that_takes_no_retraction_holds_nothing_up(
    queue: Webhook, tool: WebhookTool, status: int
) -> None:
    tool.refusals = [Response(status_code=status)] * 2
    await queue.retract(retractions(requests(120)))
    await queue.push(requests(1))
    assert [message.answered for message in tool.messages] == [status, status, 204]


async def test_a_retraction_that_is_refused_for_its_signature_is_an_error(queue: Webhook, tool: WebhookTool) -> None:
    tool.refusals = [Response(status_code=401)]
    with pytest.raises(WrongState, match="_SECRET"):
        await queue.retract(retractions(requests(1)))


async def test_an_empty_push_or_retraction_sends_no_message(queue: Webhook, tool: WebhookTool) -> None:
    await queue.push([])
    await queue.retract([])
    assert not tool.messages


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_push_is_retried_with_the_same_id_after_a_temporary_error(
    queue: Webhook, tool: WebhookTool, status: int
) -> None:
    tool.refusals = [Response(status_code=status), Response(status_code=status)]
    await queue.push(requests(2))
    assert [message.answered for message in tool.messages] == [status, status, 204]
    assert len({message.id for message in tool.messages}) == 1
    assert len({message.body for message in tool.messages}) == 1
    assert len(await tool.requests()) == 2


@pytest.mark.parametrize("header", ["2", "date"])
async def test_a_push_waits_as_long_as_retry_after_says(queue: Webhook, tool: WebhookTool, header: str) -> None:
    value = formatdate(time() + 3, usegmt=True) if header == "date" else header
    tool.refusals = [Response(status_code=429, headers={"Retry-After": value})]
    began_s = monotonic()
    await queue.push(requests(1))
    assert monotonic() - began_s > 1.9, "a date is cut to whole seconds"


async def test_a_long_retry_after_blocks_further_pushes(queue: Webhook, tool: WebhookTool) -> None:
    tool.refusals = [Response(status_code=503, headers={"Retry-After": "60"})]
    for _ in range(3):
        with pytest.raises(Unready) as raised:
            await queue.push(requests(1))
        assert 50 < raised.value.retry_after_s <= 60
    assert len(tool.messages) == 1


@pytest.mark.parametrize(
    ("status", "reason", "says"),
    [
        (410, "WEBHOOK_GONE", "LABELLOOP_WEBHOOK_URL"),
        (400, "WEBHOOK_REFUSED", "400"),
        (401, "WEBHOOK_REFUSED", "_SECRET"),
        (413, "WEBHOOK_REFUSED", "limit"),
        (307, "WEBHOOK_REFUSED", "redirects are not followed"),
    ],
)
async def test_a_permanent_refusal_raises_wrong_state_without_a_retry(
    queue: Webhook, tool: WebhookTool, status: int, reason: str, says: str
) -> None:
    tool.refusals = [Response(status_code=status, headers={"Location": tool.url})]
    with pytest.raises(WrongState, match=says) as raised:
        await queue.push(requests(1))
    assert raised.value.reason == reason
    assert len(tool.messages) == 1
    assert tool.secret not in raised.value.message


async def test_a_push_times_out_if_the_receiver_does_not_answer(queue: Webhook, tool: WebhookTool) -> None:
    tool.lag_s = 3.0
    began_s = monotonic()
    with pytest.raises(Unready, match="within 2 s"):
        await queue.push(requests(1))
    assert monotonic() - began_s < 20, "the lease on a push lasts for 20 s"


async def test_a_receiver_that_was_down_gets_all_requests_on_a_later_push(queue: Webhook, tool: WebhookTool) -> None:
    await queue.push(requests(2))
    await tool.go_down()
    with pytest.raises(Unready, match="no connection to its receiver"):
        await queue.push(requests(4))
    await tool.come_back()
    await push_at_last(queue, requests(4))
    assert {each["request_id"] for each in await tool.requests()} == set(ids(requests(4)))


async def test_a_push_succeeds_if_the_receiver_returns_while_it_retries(queue: Webhook, tool: WebhookTool) -> None:
    await tool.go_down()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(queue.push(requests(3)))
        await asyncio.sleep(0.5)
        await tool.come_back()
    assert len(await tool.requests()) == 3


@pytest.mark.parametrize(
    ("value", "expected_s"), [("", 0.0), ("7", 7.0), ("-1", 0.0), ("soon", 0.0), ("9" * 30, 600.0), ("²", 0.0)]
)
def test_unusable_retry_after_values_count_as_0_and_large_ones_are_capped(value: str, expected_s: float) -> None:
    assert retry_after_s(value) == expected_s


# Results


async def test_results_of_one_message_are_recorded_in_order(queue: Webhook, tool: WebhookTool) -> None:
    result_sink = FakeIntake()
    async with serving(queue, result_sink):
        await wait_served(tool)
        many = [result(f"run-1/2/{i}/0") for i in range(200)]
        response = await tool.post(submitted(*many))
        assert (response.status_code, response.json()["verdicts"]) == (200, ["recorded"] * 200)
        response = await tool.post(submitted(many[7], result("run-1/2/7/0", label=0, revision=1)))
        assert response.json()["verdicts"] == ["repeated", "recorded"]
        named = [(each["request_id"], each["verdict"]) for each in response.json()["results"]]
        assert named == [("run-1/2/7/0", "VERDICT_REPEATED"), ("run-1/2/7/0", "VERDICT_RECORDED")]
    assert result_sink.ids()[1:] == [each["request_id"] for each in many] + ["run-1/2/7/0"]


async def test_malformed_results_are_kept_as_refused_and_the_others_recorded(queue: Webhook, tool: WebhookTool) -> None:
    result_sink = FakeIntake()
    bad: list[Any] = [{"request_id": 7}, {"lable": 1}, [], "x", {}]
    async with serving(queue, result_sink):
        await wait_served(tool)
        response = await tool.post(submitted(result("run-1/2/0/0"), *bad, result("run-1/2/1/0")))
    assert response.json()["verdicts"] == ["recorded", *["refused"] * len(bad), "recorded"]
    assert [json.loads(data) for data in result_sink.refused] == bad


async def test_a_message_sent_again_is_answered_as_repeated(queue: Webhook, tool: WebhookTool) -> None:
    result_sink, message_id, body = FakeIntake(), new_id(), submitted(result("run-1/2/0/0"))
    async with serving(queue, result_sink):
        await wait_served(tool)
        answers = [await tool.post(body, message_id=message_id, age_s=age_s) for age_s in (20, 10, 0)]
        later = json.dumps(json.loads(body) | {"timestamp": "2026-01-01T00:00:00Z"})
        answers.append(await tool.post(later, message_id=message_id))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.json()["verdicts"] for answer in answers] == [["recorded"], *[["repeated"]] * 3]
    assert result_sink.ids()[1:] == ["run-1/2/0/0"]


async def test_a_message_id_reused_for_other_content_is_refused(queue: Webhook, tool: WebhookTool) -> None:
    result_sink, message_id = FakeIntake(), new_id()
    async with serving(queue, result_sink):
        await wait_served(tool)
        await tool.post(submitted(result("run-1/2/0/0")), message_id=message_id)
        response = await tool.post(submitted(result("run-1/2/1/0")), message_id=message_id)
    assert (response.status_code, response.json()["reason"]) == (409, "ID_REUSED")
    assert result_sink.ids()[1:] == ["run-1/2/0/0"]


@pytest.mark.parametrize("age_s", [310, -310])
async def test_a_timestamp_too_far_in_the_past_or_future_is_refused(
    queue: Webhook, tool: WebhookTool, age_s: float
) -> None:
    result_sink = FakeIntake()
    async with serving(queue, result_sink):
        await wait_served(tool)
        response = await tool.post(submitted(result("run-1/2/0/0")), age_s=age_s)
        assert (response.status_code, response.json()["reason"]) == (401, "BAD_SIGNATURE")
        assert (await tool.post(submitted(result("run-1/2/0/0")), age_s=age_s * 0.9)).status_code == 200
    assert result_sink.ids()[1:] == ["run-1/2/0/0"]


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "nonsense"},
        {"webhook-signature": "v1,%%%"},
        {"webhook-signature": "v1a,AAAA"},
        {"webhook-signature": ""},
        {"webhook-id": "msg_another"},
        {"webhook-timestamp": "nan"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-timestamp": str(int(time()) - 1)},
    ],
    ids=lambda headers: next(iter(headers)),  # test ids must not depend on the time
)
async def test_a_message_with_an_altered_signature_header_is_refused(
    queue: Webhook, tool: WebhookTool, headers: dict[str, str]
) -> None:
    result_sink, body = FakeIntake(), submitted(result("run-1/2/0/0"))
    async with serving(queue, result_sink):
        await wait_served(tool)
        response = await tool.send(body, tool.signed(body) | headers)
    assert (response.status_code, response.json()["reason"]) == (401, "BAD_SIGNATURE")
    assert tool.secret not in response.text
    assert len(result_sink.recorded) == 1, "the first, and no more"


@pytest.mark.parametrize("body", [submitted(result("run-1/2/1/0")).encode(), b"\xff\xfe"])
async def test_a_body_other_than_the_signed_one_is_refused(queue: Webhook, tool: WebhookTool, body: bytes) -> None:
    assert (await tool.send(body, tool.signed(submitted(result("run-1/2/0/0"))))).status_code == 401


async def test_a_message_without_signature_headers_is_refused(queue: Webhook, tool: WebhookTool) -> None:
    assert (await tool.send(submitted(result("run-1/2/0/0")), {})).status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("{no json", 400, "MALFORMED"),
        ("[" * 100_000, 400, "MALFORMED"),
        ("[]", 400, "UNKNOWN_TYPE"),
        (submitted(kind="labels.requested"), 400, "UNKNOWN_TYPE"),
        (submitted(), 400, "NO_RESULTS"),
        ('{"type": "label.submitted", "data": []}', 400, "NO_RESULTS"),
        (submitted(*[{}] * 1001), 413, "TOO_MANY_RESULTS"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_signed_message_that_is_not_a_submission_is_refused(
    queue: Webhook, tool: WebhookTool, body: str, status: int, reason: str
) -> None:
    response = await tool.post(body)
    assert (response.status_code, response.json()["reason"]) == (status, reason)


async def test_a_body_too_large_is_refused_before_it_is_fully_received(queue: Webhook, tool: WebhookTool) -> None:
    body = submitted(result("run-1/2/0/0") | {"comment": "x" * 1024**2})
    response = await tool.post(body)
    assert (response.status_code, response.json()["reason"]) == (413, "BODY_TOO_LARGE")
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(tool.results_url).port)
    writer.write(b"POST /queue/results HTTP/1.1\r\nHost: tool\r\nContent-Length: 1000000000\r\n\r\n" + body.encode())
    async with asyncio.timeout(PATIENCE_S):
        assert b" 413 " in await reader.readline(), "nobody waits for the rest"
    writer.close()
    await writer.wait_closed()


async def test_a_sender_that_disconnects_midway_causes_no_logged_exception(
    queue: Webhook, tool: WebhookTool, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(tool.results_url).port)
    writer.write(b"POST /queue/results HTTP/1.1\r\nHost: tool\r\nContent-Length: 1000\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0.3)
    writer.close()
    await writer.wait_closed()
    assert (await tool.post(submitted())).status_code == 400
    assert not [record for record in caplog.records if record.exc_info]


async def test_results_get_503_until_the_result_sink_is_available_again(queue: Webhook, tool: WebhookTool) -> None:
    result_sink, body, message_id = FakeIntake(), submitted(result("run-1/2/0/0"), result("run-1/2/1/0")), new_id()
    async with serving(queue, result_sink):
        await wait_served(tool)
        result_sink.away = True
        response = await tool.post(body, message_id=message_id)
        assert (response.status_code, response.json()["reason"]) == (503, "AWAY")
        assert int(response.headers["retry-after"]) >= 1
        result_sink.away = False
        response = await tool.post(body, message_id=message_id)
        assert response.json()["verdicts"] == ["recorded"] * 2


async def test_results_get_503_if_the_result_sink_takes_too_long(tool: WebhookTool) -> None:
    queue, result_sink = Webhook(tool.url, [tool.secret], take_within_s=0.3), FakeIntake()
    async with served(Starlette(routes=queue.routes())) as port, serving(queue, result_sink):
        tool.send_to(f"http://127.0.0.1:{port}")
        await wait_served(tool)
        result_sink.holding = True
        response = await tool.post(submitted(result("run-1/2/0/0")))
    assert (response.status_code, response.json()["reason"]) == (503, "TOO_SLOW")


async def test_results_get_503_while_the_integration_is_not_serving(queue: Webhook, tool: WebhookTool) -> None:
    body, message_id, result_sink = submitted(result("run-1/2/0/0")), new_id(), FakeIntake()
    assert (await tool.post(body, message_id=message_id)).status_code == 503
    async with serving(queue, result_sink):
        await wait_served(tool)
        assert (await tool.post(body, message_id=message_id)).json()["verdicts"] == ["recorded"]
    response = await tool.post(submitted(result("run-1/2/1/0")))
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert len(result_sink.recorded) == 2


async def test_concurrent_results_are_each_recorded_once(queue: Webhook, tool: WebhookTool) -> None:
    result_sink, asked = FakeIntake(), ids(requests(60))
    async with serving(queue, result_sink):
        await wait_served(tool)
        await asyncio.gather(*(tool.answer(result(each)) for each in [*reversed(asked), *asked[:20]]))
    assert sorted(result_sink.ids()[1:]) == sorted(asked)
    assert len(result_sink.repeated) == 20


async def test_secrets_are_rotated_without_downtime(tool: WebhookTool) -> None:
    fresh, old = new_secret(), tool.secret
    queue, result_sink = Webhook(tool.url, [fresh, old]), FakeIntake()
    async with served(Starlette(routes=queue.routes())) as port, serving(queue, result_sink):
        tool.send_to(f"http://127.0.0.1:{port}")
        await wait_served(tool)
        tool.secret = fresh
        await tool.answer(result("run-1/2/0/0"))
        await queue.push(requests(1))
        tool.secret = new_secret()
        assert (await tool.post(submitted(result("run-1/2/1/0")))).status_code == 401
    assert len(await tool.requests()) == 1, "it is signed with the first"
    assert len(result_sink.recorded) == 2


def test_message_ids_are_forgotten_by_age_and_by_number() -> None:
    now_s = 1000.0
    seen = SeenMessages(lambda: now_s, most=3)
    seen.note("a", "1")
    with pytest.raises(WrongState):
        seen.note("a", "2")
    now_s += 599
    with pytest.raises(WrongState):
        seen.note("a", "2")
    now_s += 2
    seen.note("a", "2")
    for each in "bcd":
        seen.note(each, "1")
    seen.note("a", "3")
    with pytest.raises(WrongState):
        seen.note("d", "2")


# Settings


def configure(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"LABELLOOP_WEBHOOK_{name}", value)


def test_without_a_url_there_is_no_webhook() -> None:
    assert from_environment() is None


def test_a_webhook_is_configured_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, URL="https://tool.test/hook", SECRET=f"{new_secret()} {new_secret()}")
    made = from_environment()
    assert made is not None
    assert (made.name, made.whole_samples) == ("webhook", False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("URL", "ftp://tool.test"),
        ("SECRET", ""),
        ("SECRET", "guess-me"),
        ("SECRET", "whsec_c2hvcnQ="),
        ("SECRET", "whsec_%%%%"),
        ("TIMEOUT_S", "0"),
        ("TIMEOUT_S", "60"),
    ],
)
def test_invalid_settings_are_named_without_revealing_the_secret(
    monkeypatch: pytest.MonkeyPatch, field: str, value: str
) -> None:
    configure(monkeypatch, URL="https://tool.test/hook", SECRET=new_secret())
    configure(monkeypatch, **{field: value})
    with pytest.raises(ValidationError) as raised:
        from_environment()
    assert raised.value.errors()[0]["loc"] == (field.lower(),)
    assert field != "SECRET" or not value or value not in str(raised.value)


def test_record_statuses_have_their_documented_values() -> None:
    assert [status.value for status in RecordStatus] == ["recorded", "repeated", "refused"]
