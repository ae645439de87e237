"""What travels between the services and a tool in a run is as the published documents describe it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from labelloop.eventlog.connection import connect
from nats.aio.msg import Msg
from schemas.documents import committed
from schemas.envelopes import ANSWER_FILE, REQUESTED_FILE, RETRACTED_FILE, SUBMITTED_FILE
from schemas.messages import REQUEST, RESULT, VERDICT

from oracle_svc.integrations.nats import PREFIX
from tests.queues.test_faults import Campaign, started, until
from tests.queues.tools import nats, webhook
from tests.queues.webhook_tool import WebhookTool
from tests.unit.published_documents import registry

DOCUMENTS = {name: json.loads(text) for name, text in committed().items()}


def check(file_name: str, value: Any) -> None:
    Draft202012Validator(DOCUMENTS[file_name], registry=registry(DOCUMENTS)).validate(value)


@pytest.fixture
async def by_webhook(tmp_path: Path, nats_binary: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Campaign]:
    async with started(webhook, tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
async def by_nats(tmp_path: Path, nats_binary: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Campaign]:
    async with started(nats, tmp_path, monkeypatch) as made:
        yield made


async def label_with_a_fault(campaign: Campaign) -> None:
    """Label a run whose first result is refused, and of which one request is cancelled."""
    await campaign.begin()
    first = await campaign.next_requests(5)
    await campaign.tool.answer({"request_id": first[0], "class_name": "eleven", "annotator": "kim"})
    await campaign.dead_letters(1)
    await campaign.cancel(first[1:2])
    await campaign.answer(first[:1] + first[2:])
    await campaign.answer_all()


async def test_every_message_of_a_run_over_the_webhook_validates(by_webhook: Campaign) -> None:
    tool = by_webhook.tool
    assert isinstance(tool, WebhookTool)
    await label_with_a_fault(by_webhook)

    async def is_retracted() -> bool:
        return bool(tool.retracted)

    await until(is_retracted)
    files = {"labels.requested": REQUESTED_FILE, "labels.retracted": RETRACTED_FILE}
    said = [message.said for message in tool.messages]
    for each in said:
        check(files[each["type"]], each)
    assert {each["type"] for each in said} == set(files)
    for wrong in ({"request_id": "campaign/0/299", "label": 0}, {"request_id": by_webhook.asked[0], "label": 0}, 7):
        body = {"type": "label.submitted", "data": {"results": [wrong]}}
        answered = (await tool.post(json.dumps(body))).json()
        check(ANSWER_FILE, answered)
        if isinstance(wrong, dict):
            check(SUBMITTED_FILE, body)
    assert answered["verdicts"] == ["refused"]


async def test_every_message_of_a_run_over_nats_validates(by_nats: Campaign) -> None:
    assert by_nats.stack.broker is not None, "the stack started one"
    client = await connect(by_nats.stack.broker.url, "watcher")
    came: list[Msg] = []

    async def note(message: Msg) -> None:
        came.append(message)

    await client.subscribe(f"{PREFIX}.>", cb=note)
    files = {"requests": REQUEST.file_name, "results": RESULT.file_name, "verdicts": VERDICT.file_name}
    try:
        await label_with_a_fault(by_nats)

        async def are_all_judged() -> bool:
            kinds = [message.subject.split(".")[2] for message in came]
            return kinds.count("verdicts") >= kinds.count("results") > 0

        await until(are_all_judged)
    finally:
        await client.close()
    for message in came:
        check(files[message.subject.split(".")[2]], json.loads(message.data))
    assert {message.subject.split(".")[2] for message in came} == set(files)
    numbers = [json.loads(message.data) for message in came]
    assert any(each.get("round") == 0 for each in numbers), "round 0 is there"
