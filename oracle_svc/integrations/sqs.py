"""Exchange requests and results with annotators over two existing SQS queues, standard or FIFO.

The annotators' client receives requests, sends results, and deletes a request after sending its result. What became of
each result is sent to a third queue, if one is set. SQS cannot remove single messages, so a request that is no longer
wanted stays until the queue's retention ends; the oracle refuses late results. A FIFO queue drops a request that is
pushed again within five minutes, unless it is asked again; a standard queue then holds it twice. Each request is a
message group of its own in a FIFO queue, because SQS serves a group to one receiver at a time: any number of annotators
work at once, and requests that are asked again keep their order. The result queue should have no redrive policy: it
would take results away from an oracle whose event log is away for long.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from hashlib import sha256
from threading import Event
from typing import Any, ClassVar
from uuid import uuid4

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from labelloop.errors import InvalidInput, LimitExceeded, Unready
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelRetraction, LabelVerdict
from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from oracle_svc.integrations.base import ResultSink
from oracle_svc.integrations.messages import BACKOFF, BY_LINK, asking, hand_over, outlive, to_json, verdict_json
from oracle_svc.integrations.verdict_outbox import VerdictOutbox

BODY_BYTES_MAX = 256 * 1024  # of a message, and of all messages of a batch together
_BATCH_MAX = 10
_SEND_TRIES = 4
_WAIT_S = 2  # of a long poll: a waiting thread cannot be stopped
_IN_HAND_S = 30  # visibility timeout of a received result
_URL = r"^https?://\S+$"
_AWAY = (BotoCoreError, ClientError)

log = structlog.get_logger()


class SqsSettings(BaseSettings):
    """Settings from ``LABELLOOP_SQS_<NAME>`` environment variables; credentials are found as boto3 finds them."""

    model_config = SettingsConfigDict(env_prefix="LABELLOOP_SQS_", env_ignore_empty=True, frozen=True)

    requests_url: str | None = Field(None, pattern=_URL, description="the queue that requests are put into")
    results_url: str | None = Field(None, pattern=_URL, description="the queue that results are read from")
    verdicts_url: str | None = Field(None, pattern=_URL, description="the queue that verdicts on results are put into")
    endpoint_url: str | None = Field(None, pattern=_URL, description="where SQS answers, if not at AWS")
    region: str | None = Field(None, description="the queues' region; none: as boto3 finds it")

    @model_validator(mode="after")
    def both_or_neither(self) -> SqsSettings:
        if (self.requests_url is None) != (self.results_url is None):
            raise ValueError("set both LABELLOOP_SQS_REQUESTS_URL and LABELLOOP_SQS_RESULTS_URL, or neither")
        return self


def from_environment() -> Sqs | None:
    """Return the integration; None if no queues are set. Raises InvalidInput if no region is configured."""
    settings = SqsSettings()
    if settings.requests_url is None or settings.results_url is None:
        return None
    config = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"})
    try:
        client = boto3.client("sqs", endpoint_url=settings.endpoint_url, region_name=settings.region, config=config)
    except BotoCoreError as error:
        message = f"SQS cannot be set up: {error}; see LABELLOOP_SQS_REGION and the AWS settings"
        raise InvalidInput("BAD_SQS_SETTINGS", message, field="region") from error
    return Sqs(client, settings.requests_url, settings.results_url, settings.verdicts_url)


class Sqs:
    """SQS integration. ``client`` is boto3's, which blocks: every call runs in a thread."""

    name: ClassVar[str] = "sqs"
    whole_samples: ClassVar[bool] = False

    def __init__(self, client: Any, requests_url: str, results_url: str, verdicts_url: str | None = None) -> None:
        self._client, self._requests_url, self._results_url = client, requests_url, results_url
        self._verdicts_url = verdicts_url
        self._outbox: VerdictOutbox[LabelVerdict] = VerdictOutbox(self.name, self._tell, _BATCH_MAX)
        self._half_pushed: set[str] = set()

    async def push(self, requests: Sequence[LabelRequest]) -> None:
        """Send requests and return once SQS has taken them all.

        When a failed push is repeated, the requests that were taken are left out.

        Raises:
            Unready: SQS has not taken them all.
            LimitExceeded: A request is too large; nothing is sent.
            InvalidInput: SQS refuses a request as the sender's fault.
        """
        missing = [request for request in requests if asking(request) not in self._half_pushed]
        try:
            for batch in batches([self._entry(request) for request in missing]):
                await self._send(batch)
        except _AWAY as error:
            message = f"SQS takes no requests just now: {error}"
            raise Unready("QUEUE_AWAY", message, queue=self._requests_url) from error
        self._half_pushed.difference_update(asking(request) for request in requests)

    async def retract(self, retractions: Sequence[LabelRetraction]) -> None:
        """Do nothing: SQS cannot remove single messages."""

    async def serve(self, result_sink: ResultSink) -> None:
        async with self._outbox.running():
            await outlive(self.name, lambda: self._read(result_sink), _AWAY, result_sink)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._client.close)

    def _entry(self, request: LabelRequest) -> dict[str, str]:
        """Build a batch entry, whose ``Id`` is the request's message id until it is sent."""
        entry = {"Id": asking(request), "MessageBody": to_json(request)}
        if len(entry["MessageBody"]) > BODY_BYTES_MAX:
            message = (
                f"request {request.request_id} takes {len(entry['MessageBody'])} bytes, and SQS no more than "
                f"{BODY_BYTES_MAX}: {BY_LINK}"
            )
            raise LimitExceeded("REQUEST_TOO_LARGE", message, request_id=request.request_id)
        return entry | _ordered(self._requests_url, request.request_id, asking(request))

    async def _send(self, batch: Sequence[dict[str, str]]) -> None:
        """Send a batch, retrying the entries that fail."""
        by_place = {str(place): entry for place, entry in enumerate(batch)}
        for tries in range(_SEND_TRIES):
            if tries:
                await asyncio.sleep(BACKOFF.pause_s(tries))
            entries = [entry | {"Id": place} for place, entry in by_place.items()]
            answer = await self._call("send_message_batch", self._requests_url, Entries=entries)
            for sent in answer.get("Successful", []):
                self._half_pushed.add(by_place.pop(sent["Id"])["Id"])
            if not by_place:
                return
            self._check_own_fault(answer["Failed"], by_place)
        message = f"SQS does not take {len(by_place)} requests: {answer['Failed'][0].get('Message', '')}"
        raise Unready("QUEUE_AWAY", message, queue=self._requests_url)

    def _check_own_fault(self, failed: Sequence[dict[str, Any]], by_place: dict[str, dict[str, str]]) -> None:
        for fault in failed:
            if fault["SenderFault"]:
                request_id = by_place[fault["Id"]]["Id"]
                message = f"SQS refuses request {request_id}: {fault['Code']}: {fault.get('Message', '')}"
                raise InvalidInput("REQUEST_REFUSED", message, request_id=request_id, code=fault["Code"])

    async def _read(self, result_sink: ResultSink) -> None:
        stopped = Event()
        try:
            while True:
                received = await asyncio.to_thread(self._received, stopped)
                result_sink.note_reading()
                await self._take(result_sink, received)
        finally:
            stopped.set()

    def _received(self, stopped: Event) -> list[dict[str, Any]]:
        """Return the messages that arrive within ``_WAIT_S``.

        A thread cannot be cancelled: what arrives once ``stopped`` is set is given back to the queue.
        """
        answer = self._client.receive_message(
            QueueUrl=self._results_url,
            MaxNumberOfMessages=_BATCH_MAX,
            WaitTimeSeconds=_WAIT_S,
            VisibilityTimeout=_IN_HAND_S,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        if messages and stopped.is_set():
            back = [entry | {"VisibilityTimeout": 0} for entry in _entries(messages)]
            self._client.change_message_visibility_batch(QueueUrl=self._results_url, Entries=back)
        return messages

    async def _take(self, result_sink: ResultSink, messages: Sequence[dict[str, Any]]) -> None:
        """Hand over results, then delete them: one deleted and not recorded would be lost."""
        async with asyncio.TaskGroup() as tasks:
            handed = [tasks.create_task(_hand_over(result_sink, message)) for message in messages]
        done: list[dict[str, Any]] = []
        later: list[dict[str, Any]] = []
        for entry, task in zip(_entries(messages), handed, strict=True):
            taken = task.result()
            if isinstance(taken, LabelVerdict):
                done.append(entry)
                if self._verdicts_url:
                    self._outbox.put(taken)
            else:
                later.append(entry | {"VisibilityTimeout": math.ceil(taken)})
        await self._settle("delete_message_batch", done)
        await self._settle("change_message_visibility_batch", later)

    async def _tell(self, verdicts: Sequence[LabelVerdict]) -> None:
        """Send verdicts, at most a batch. Raises Unready if SQS has not taken them all."""
        url = self._verdicts_url or ""
        bodies = [verdict_json(each) for each in verdicts]
        entries = [
            {"Id": str(place), "MessageBody": body, **_ordered(url, each.request_id or "none", f"{uuid4()}")}
            for place, (each, body) in enumerate(zip(verdicts, bodies, strict=True))
        ]
        answer = await self._call("send_message_batch", url, Entries=entries)
        if failed := answer.get("Failed"):
            message = f"SQS does not take {len(failed)} verdicts: {failed[0].get('Message', '')}"
            raise Unready("QUEUE_AWAY", message, queue=url)

    async def _settle(self, call: str, entries: Sequence[dict[str, Any]]) -> None:
        if not entries:
            return
        answer = await self._call(call, self._results_url, Entries=entries)
        if failed := answer.get("Failed"):  # they are redelivered, and are repeats then
            log.warning("results_left_in_queue", tool=self.name, count=len(failed), problem=failed[0].get("Message"))

    async def _call(self, call: str, queue_url: str, **parameters: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await asyncio.to_thread(getattr(self._client, call), QueueUrl=queue_url, **parameters)
        return answer


def _ordered(queue_url: str, group: str, once: str) -> dict[str, str]:
    """Return what a FIFO queue needs beside a message; nothing for a standard queue.

    Args:
        group: What is delivered in order.
        once: What is the same for the same message.
    """
    if not queue_url.endswith(".fifo"):
        return {}
    return {"MessageGroupId": group, "MessageDeduplicationId": sha256(once.encode()).hexdigest()}


def batches(entries: Sequence[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    """Group entries, in order, into the largest batches that SQS takes."""
    batch: list[dict[str, str]] = []
    size = 0
    for entry in entries:
        if len(batch) == _BATCH_MAX or size + len(entry["MessageBody"]) > BODY_BYTES_MAX:
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += len(entry["MessageBody"])
    if batch:
        yield batch


def _entries(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the ids and receipt handles by which batch calls name messages."""
    return [{"Id": str(place), "ReceiptHandle": each["ReceiptHandle"]} for place, each in enumerate(messages)]


async def _hand_over(result_sink: ResultSink, message: dict[str, Any]) -> LabelVerdict | float:
    tries = int(message["Attributes"]["ApproximateReceiveCount"])
    return await hand_over(result_sink, message["Body"].encode(), tries=tries, tool=Sqs.name)
