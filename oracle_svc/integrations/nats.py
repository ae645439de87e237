"""Exchange requests and results with annotators over a stream of labelloop's own NATS broker, beside the event log.

Requests are published under ``labelloop-queue.v1.requests.<run>.<round>.<sample>.<slot>``, each once: a repeated push
finds it there, and writes it again only if it is asked again. The annotators' client reads them with a durable consumer
of its own, filtered by run, or by run and slot, and publishes results to ``labelloop-queue.v1.results.<run>`` with
JetStream, so that results wait for an oracle that is away. All replicas share one consumer of results. What became of a
result is published under ``labelloop-queue.v1.verdicts.<run>``. Messages are dropped after 30 days.

The stream cannot be purged, so requests are not retracted: the oracle refuses late results.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import ClassVar

from google.protobuf.json_format import Parse
from labelloop.domain.ids import RequestId
from labelloop.errors import LabelloopError, LimitExceeded, Unready
from labelloop.eventlog.conditional_publish import publish_once, publish_over
from labelloop.eventlog.connection import jetstream, next_message
from labelloop.eventlog.stream_setup import ensure_stream
from labelloop.eventlog.streams import QUEUE, QUEUE_PREFIX, queue
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelRetraction, LabelVerdict
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from oracle_svc.integrations.base import ResultSink
from oracle_svc.integrations.messages import (
    BY_LINK,
    PREFETCH,
    asking,
    hand_over,
    outlive,
    to_json,
    verdict_json,
)
from oracle_svc.integrations.verdict_outbox import VerdictOutbox

STREAM, PREFIX = QUEUE, QUEUE_PREFIX
CONSUMER = "oracle"
REQUESTS, RESULTS, VERDICTS = f"{PREFIX}.requests", f"{PREFIX}.results", f"{PREFIX}.verdicts"
_ACK_WAIT_S = 10.0  # for recording a result; those that a dead oracle had taken are redelivered after it
_PULL_S = 3.0
_SILENCE_LIMIT_S = 2.0  # beyond its expiry, after which a pull without any reply is given up
_TOGETHER = 100  # concurrent writes

_Reply = tuple[str, LabelVerdict]  # where the result was published, below RESULTS


class Nats:
    """NATS integration. ``replicas`` is the number of cluster nodes that keep each message."""

    name: ClassVar[str] = "nats"
    whole_samples: ClassVar[bool] = False

    def __init__(self, client: Client, replicas: int = 1) -> None:
        self._client, self._replicas = client, replicas
        self._js: JetStreamContext = jetstream(client)
        self._outbox: VerdictOutbox[_Reply] = VerdictOutbox(self.name, self._tell, _TOGETHER)

    async def push(self, requests: Sequence[LabelRequest]) -> None:
        """Publish requests. Raises Unready while the broker is away, LimitExceeded beyond its max_payload."""
        try:
            await self._ensure_stream()
            for i in range(0, len(requests), _TOGETHER):
                await asyncio.gather(*(self._write(request) for request in requests[i : i + _TOGETHER]))
        except MaxPayloadError as error:
            most = self._client.max_payload
            message = f"a request takes more bytes than the broker's max_payload of {most}: {BY_LINK}"
            raise LimitExceeded("REQUEST_TOO_LARGE", message, most=most) from error
        except NatsError as error:
            message = f"stream {STREAM} takes no requests just now: {error or type(error).__name__}"
            raise Unready("QUEUE_AWAY", message, stream=STREAM) from error

    async def retract(self, retractions: Sequence[LabelRetraction]) -> None:
        """Do nothing: the stream cannot be purged."""

    async def serve(self, result_sink: ResultSink) -> None:
        """Take results until cancelled, surviving outages and a broker that denies access until that is corrected."""
        async with self._outbox.running():
            await outlive(self.name, lambda: self._read(result_sink), (NatsError, LabelloopError), result_sink)

    async def aclose(self) -> None:
        """Do nothing: the connection is the oracle's."""

    async def _write(self, request: LabelRequest) -> None:
        subject = f"{REQUESTS}.{RequestId.parse(request.request_id).subject}"
        body = to_json(request).encode()
        if await publish_once(self._js, subject, body):
            return
        standing = await self._js.get_last_msg(STREAM, subject)
        if asking(Parse(standing.data or b"", LabelRequest(), ignore_unknown_fields=True)) == asking(request):
            return
        await publish_over(self._js, subject, body, standing.seq or 0)  # unless another replica is quicker

    async def _read(self, result_sink: ResultSink) -> None:
        """Take results. Raises TimeoutError if the broker falls silent: it is away, or lost the consumer."""
        await self._ensure_stream()
        await self._js.add_consumer(STREAM, _CONSUMER)
        subscription = await self._client.subscribe(self._client.new_inbox())
        try:
            while True:
                async with asyncio.TaskGroup() as tasks, aclosing(self._pulled(subscription)) as messages:
                    async for message in messages:
                        result_sink.note_reading()
                        tasks.create_task(self._take(result_sink, message))
                result_sink.note_reading()  # the pull was answered, if only by its end
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()

    async def _pulled(self, subscription: Subscription) -> AsyncGenerator[Msg, None]:
        """Yield the messages of one pull as they arrive.

        nats-py's ``fetch`` would hold back the first until it has them all.
        """
        await self._client.publish(_NEXT, _PULL, reply=subscription.subject)
        for _ in range(PREFETCH):
            message = await next_message(subscription, _PULL_S + _SILENCE_LIMIT_S)
            if "Status" in (message.headers or {}):
                return  # the request expired
            yield message

    async def _take(self, result_sink: ResultSink, message: Msg) -> None:
        """Hand over one result, then acknowledge it: one acknowledged and not recorded would be lost."""
        tries = message.metadata.num_delivered
        taken = await hand_over(result_sink, message.data, tries=tries, tool=self.name)
        if isinstance(taken, LabelVerdict):
            await message.ack()
            self._outbox.put((message.subject.removeprefix(f"{RESULTS}."), taken))
        else:
            await message.nak(delay=taken)

    async def _tell(self, replies: Sequence[_Reply]) -> None:
        publish = self._js.publish
        await asyncio.gather(*(publish(f"{VERDICTS}.{to}", verdict_json(each).encode()) for to, each in replies))

    async def _ensure_stream(self) -> None:
        await ensure_stream(self._client, queue(self._replicas))


_NEXT = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER}"
_PULL = json.dumps({"batch": PREFETCH, "expires": int(_PULL_S * 1e9)}).encode()
_CONSUMER = ConsumerConfig(
    durable_name=CONSUMER,
    filter_subject=f"{RESULTS}.>",
    ack_policy=AckPolicy.EXPLICIT,
    ack_wait=_ACK_WAIT_S,
    max_deliver=-1,
    max_ack_pending=1000,
)
