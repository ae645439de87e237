"""Exchange requests and results with annotators over two queues of an AMQP 0-9-1 broker such as RabbitMQ.

Both queues are declared durable if they do not exist; existing ones are used as they are, so that they can be quorum
queues. The request queue delivers by priority. The annotators' client consumes requests, and publishes results,
persistent, to the default exchange with the result queue's name as routing key. What became of a result is published
to its ``reply_to``, with its ``correlation_id``, if that is a queue that the broker named for a client, and else to a
queue for verdicts, if one is set: nobody who may publish results has the oracle write into a queue of their choice.

AMQP can neither deduplicate nor remove single messages. A request that is no longer wanted expires: at its deadline,
and at the latest when it would be asked again. A request that is pushed again after the oracle died, or after the
connection was lost before the broker confirmed it, is queued twice, with the same ``message_id``. While the broker only
holds confirmations back, nothing is published again. The oracle takes the first result and refuses late ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AMQPConnectionError, ChannelNotFoundEntity
from labelloop.errors import Unready
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelRetraction, LabelVerdict
from pydantic import AmqpDsn, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from oracle_svc.integrations.base import ResultSink
from oracle_svc.integrations.messages import PREFETCH, asking, describe, hand_over, outlive, to_json, verdict_json
from oracle_svc.integrations.verdict_outbox import VerdictOutbox
from oracle_svc.lease_table import RESEND_S

_AWAY: tuple[type[Exception], ...] = CONNECTION_EXCEPTIONS  # RuntimeError too: something is closed already
_CONNECT_WITHIN_S, _CONFIRM_WITHIN_S = 5.0, 10.0
_UNCONFIRMED = (
    "it is not reached, or confirms nothing: see whether the broker runs, and whether an alarm about its memory or its "
    "disk blocks publishers"
)
_TOGETHER = 50  # requests published concurrently
_PRIORITY_MAX = 9
_EXPIRATION_MAX_S = (2**32 - 1) / 1000  # RabbitMQ's own limit
_TRIES_IN_HAND = 4  # about eight seconds in all
_NAMED_BY_BROKER = ("amq.gen-", "amq.rabbitmq.reply-to.")
_VERDICTS_KEPT = {"x-message-ttl": 7 * 24 * 3600 * 1000, "x-max-length": 100_000}

_Reply = tuple[str, aio_pika.Message]  # the queue, and what goes there


class AmqpSettings(BaseSettings):
    """Settings from ``LABELLOOP_AMQP_<NAME>`` environment variables."""

    model_config = SettingsConfigDict(env_prefix="LABELLOOP_AMQP_", env_ignore_empty=True, frozen=True)

    url: AmqpDsn | None = Field(None, description="the broker: amqp:// or amqps://, with user, password and vhost")
    requests: str = Field("labelloop.requests", description="the queue that requests are put into")
    results: str = Field("labelloop.results", description="the queue that results are read from")
    verdicts: str = Field("", description="the queue that verdicts on results are put into; none: only in reply")
    resend_s: float = Field(
        RESEND_S, ge=1, validation_alias="LABELLOOP_RESEND_S", description="seconds after which a request expires"
    )


def from_environment() -> Amqp | None:
    settings = AmqpSettings()
    if not settings.url:
        return None
    return Amqp(str(settings.url), settings.requests, settings.results, settings.verdicts, settings.resend_s)


class Amqp:
    """AMQP integration. Publishes and consumes over separate connections, as brokers may block publishers only."""

    name: ClassVar[str] = "amqp"
    whole_samples: ClassVar[bool] = False

    def __init__(self, url: str, requests: str, results: str, verdicts: str = "", kept_s: float = RESEND_S) -> None:
        self._url, self._requests, self._results, self._verdicts = url, requests, results, verdicts
        self.kept_s = kept_s
        self._pushing = asyncio.Lock()
        self._publisher: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._half_pushed: set[str] = set()
        self._unconfirmed: dict[str, asyncio.Task[None]] = {}
        self._outbox: VerdictOutbox[_Reply] = VerdictOutbox(self.name, self._tell, _TOGETHER)

    async def push(self, requests: Sequence[LabelRequest]) -> None:
        """Publish requests and return once the broker has confirmed them all. Raises Unready if it has not.

        When a failed push is repeated, the requests that were confirmed are left out, and those that the broker may
        still confirm are waited for: a broker that is short of memory reads them later.
        """
        async with self._pushing:
            missing = [request for request in requests if asking(request) not in self._half_pushed]
            try:
                for i in range(0, len(missing), _TOGETHER):
                    await self._publish(missing[i : i + _TOGETHER])
            except _AWAY as error:
                await self.aclose()
                raise self._away(_UNCONFIRMED if isinstance(error, TimeoutError) else describe(error)) from error
            self._half_pushed.difference_update(asking(request) for request in requests)

    async def retract(self, retractions: Sequence[LabelRetraction]) -> None:
        """Do nothing: AMQP cannot remove single messages, and they expire."""

    async def serve(self, result_sink: ResultSink) -> None:
        async with self._outbox.running():
            await outlive(self.name, lambda: self._consume(result_sink), _AWAY, result_sink)

    async def aclose(self) -> None:
        """Close the connection that requests are published over; ``serve`` closes its own."""
        publisher, self._publisher, self._channel = self._publisher, None, None
        tasks, self._unconfirmed = [*self._unconfirmed.values()], {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if publisher is not None:
            await publisher.close()

    def _away(self, problem: str) -> Unready:
        message = f"the AMQP queue {self._requests} takes no requests just now: {problem}"
        return Unready("QUEUE_AWAY", message, queue=self._requests)

    async def _publish(self, requests: Sequence[LabelRequest]) -> None:
        """Publish the requests that are not on their way; return, or raise, once each is confirmed or time is over."""
        channel = await self._publishing()
        for each in requests:
            if asking(each) not in self._unconfirmed:
                self._unconfirmed[asking(each)] = asyncio.create_task(self._send(channel, each))
        done, late = await asyncio.wait(
            [self._unconfirmed[asking(each)] for each in requests], timeout=_CONFIRM_WITHIN_S
        )
        self._forget_done()
        for task in done:
            if task.cancelled():  # how aiormq ends waits on a lost connection
                raise AMQPConnectionError("the connection was lost")
            if error := task.exception():
                raise error
        if late:
            raise self._away(f"{_UNCONFIRMED}; {len(late)} are out and are not published again")

    async def _send(self, channel: AbstractChannel, request: LabelRequest) -> None:
        await channel.default_exchange.publish(_message(request, self.kept_s), self._requests, mandatory=True)
        self._half_pushed.add(asking(request))

    def _forget_done(self) -> None:
        self._unconfirmed = {key: task for key, task in self._unconfirmed.items() if not task.done()}

    async def _publishing(self) -> AbstractChannel:
        if self._channel is None or self._channel.is_closed:
            await self.aclose()
            self._publisher = await self._connected()
            await _ensure_queue(self._publisher, self._requests, {"x-max-priority": _PRIORITY_MAX})
            self._channel = await self._publisher.channel(publisher_confirms=True, on_return_raises=True)
        return self._channel

    async def _tell(self, replies: Sequence[_Reply]) -> None:
        """Publish verdicts over a connection of their own, which a blocked broker may hold up."""
        async with await self._connected() as connection:
            if any(queue == self._verdicts for queue, _ in replies):
                await _ensure_queue(connection, self._verdicts, _VERDICTS_KEPT)
            channel = await connection.channel(publisher_confirms=True)
            exchange = channel.default_exchange
            await asyncio.gather(*(exchange.publish(message, queue, mandatory=False) for queue, message in replies))

    async def _consume(self, result_sink: ResultSink) -> None:
        async with await self._connected() as connection:
            await _ensure_queue(connection, self._results, {})
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=PREFETCH)
            inbox = await _inbox(channel, self._results)
            result_sink.note_reading()
            async with asyncio.TaskGroup() as tasks:
                while (message := await inbox.get()) is not None:
                    tasks.create_task(self._take(result_sink, message))
                # Results in hand can no longer be acknowledged: the broker requeues them.
                raise AMQPConnectionError(f"the connection, or the queue {self._results}, is gone")

    async def _take(self, result_sink: ResultSink, message: AbstractIncomingMessage) -> None:
        """Hand over one result, retrying for a while before it is requeued for another replica.

        AMQP redelivers a requeued message at once.
        """
        for tries in range(1, _TRIES_IN_HAND + 1):
            taken = await hand_over(result_sink, message.body, tries=tries, tool=self.name)
            if isinstance(taken, LabelVerdict):
                await message.ack()
                if queue := _reply_queue(message.reply_to) or self._verdicts:
                    self._outbox.put((queue, _reply(taken, message)))
                return
            await asyncio.sleep(taken)
        await message.nack(requeue=True)

    async def _connected(self) -> AbstractConnection:
        return await aio_pika.connect(self._url, timeout=_CONNECT_WITHIN_S)


async def _ensure_queue(connection: AbstractConnection, name: str, arguments: dict[str, int]) -> None:
    """Declare the queue if it does not exist.

    An existing one is used as it is: other settings, and users that may not declare queues, are no error.
    """
    try:
        async with connection.channel() as channel:  # the broker closes it if there is no such queue
            await channel.declare_queue(name, passive=True)
    except ChannelNotFoundEntity:
        async with connection.channel() as channel:
            await channel.declare_queue(name, durable=True, arguments=dict(arguments))


async def _inbox(channel: AbstractChannel, name: str) -> asyncio.Queue[AbstractIncomingMessage | None]:
    """Consume the queue ``name``; the inbox gets its messages, and None once no more will come.

    aio-pika's own iterator never returns if the queue was deleted.
    """
    inbox: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()

    def end(*_: object) -> None:
        inbox.put_nowait(None)

    channel.close_callbacks.add(end)
    (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(end)
    queue = await channel.get_queue(name, ensure=False)
    await queue.consume(inbox.put)
    return inbox


def _message(request: LabelRequest, kept_s: float) -> aio_pika.Message:
    return aio_pika.Message(
        to_json(request).encode(),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=asking(request),
        priority=max(0, _PRIORITY_MAX - request.priority.bit_length()),  # 9, 8, 7, ... for places 0, 1, 2-3, ...
        expiration=_expires_in_s(request, kept_s),
    )


def _expires_in_s(request: LabelRequest, kept_s: float) -> float | None:
    left_s = kept_s
    if request.HasField("deadline"):
        left_s = min(left_s, (request.deadline.ToDatetime(UTC) - datetime.now(UTC)).total_seconds())
    return max(0.0, left_s) if left_s < _EXPIRATION_MAX_S else None


def _reply_queue(reply_to: str | None) -> str:
    """Return the queue that a reply goes to; empty unless the broker itself gave it its name.

    Clients may not declare queues of such names. A result could name any other, for instance that of requests.
    """
    return reply_to if reply_to and reply_to.startswith(_NAMED_BY_BROKER) else ""


def _reply(verdict: LabelVerdict, to: AbstractIncomingMessage) -> aio_pika.Message:
    return aio_pika.Message(
        verdict_json(verdict).encode(),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        correlation_id=to.correlation_id or to.message_id,
    )
