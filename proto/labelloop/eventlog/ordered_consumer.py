"""Follow a stream in order and without gaps, across outages of the broker.

nats-py's own ordered consumer does not recover when the broker restarts. Order is therefore checked here: after a gap
in the consumer's sequence, a missed heartbeat or a lost connection, a new consumer starts after the last message seen.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from labelloop.eventlog.arrivals import Arrivals
from labelloop.eventlog.retry import retry_while_away
from labelloop.eventlog.rollback_guard import Guard
from labelloop.observability.metrics import FOLLOWINGS_ANEW

_HEARTBEAT_S = 2.0
_SILENCE_LIMIT_S = 5.0
_IDLE_LIMIT_S = 60.0

log = structlog.get_logger()


class _OutOfOrder(NatsError):
    """Messages were lost or held back: a new consumer must start after the last one seen."""


async def follow_stream(
    client: Client,
    js: JetStreamContext,
    stream: str,
    subject: str,
    after: int,
    rollback_guard: Guard,
) -> AsyncGenerator[Msg, None]:
    """Yield all messages under ``subject`` after sequence ``after``, in order, without gap or repeat, forever.

    ``rollback_guard`` records each message. It becomes suspect whenever the stream is read on, after an interruption or
    from a snapshot, and is checked once the consumer stands, before any further message is read: what the broker takes
    back after that interrupts the consumer.
    """
    last = after
    while True:
        arrivals = Arrivals(client)
        subscription = await client.subscribe(client.new_inbox(), cb=arrivals.receive)
        try:
            consumer = _consumer(subscription.subject, subject, last + 1)
            await retry_while_away(partial(js.add_consumer, stream, consumer))
            rollback_guard.suspect = rollback_guard.suspect or last > 0
            await retry_while_away(rollback_guard.check)
            async with aclosing(_in_order(client, arrivals, rollback_guard)) as messages:
                async for message in messages:
                    last = message.metadata.sequence.stream
                    rollback_guard.record(message)
                    yield message
        except NatsError as error:
            FOLLOWINGS_ANEW.inc()
            log.info(
                "log_consumer_recreated", stream=stream, after_sequence=last, why=str(error) or type(error).__name__
            )
            if isinstance(error, TimeoutError):  # no heartbeat: the node at the other end may be cut off
                await client.force_reconnect()
            rollback_guard.suspect = True
        finally:
            if not client.is_closed:
                await subscription.unsubscribe()


def _consumer(inbox: str, subject: str, start: int) -> ConsumerConfig:
    """Configure an ephemeral consumer, which the broker deletes soon after nothing listens on ``inbox`` any more."""
    return ConsumerConfig(
        deliver_subject=inbox,
        filter_subject=subject,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=start,
        ack_policy=AckPolicy.NONE,
        max_deliver=1,
        flow_control=True,
        idle_heartbeat=_HEARTBEAT_S,
        inactive_threshold=_IDLE_LIMIT_S,
        mem_storage=True,
        num_replicas=1,
    )


async def _in_order(client: Client, arrivals: Arrivals, rollback_guard: Guard) -> AsyncGenerator[Msg, None]:
    seen = 0
    while True:
        message = await arrivals.next(_SILENCE_LIMIT_S)
        headers = message.headers or {}
        if "Status" in headers:
            if message.reply:  # flow control: the broker continues once this is answered
                await client.publish(message.reply)
            elif int(headers.get("Nats-Last-Consumer", seen)) != seen:
                raise _OutOfOrder(f"saw {seen} messages of {headers['Nats-Last-Consumer']}")
            elif rollback_guard.pop_stalled():
                raise _OutOfOrder("the broker holds newer messages and sends none")
            continue
        if message.metadata.sequence.consumer != seen + 1:
            raise _OutOfOrder(f"message {message.metadata.sequence.consumer} came after {seen}")
        seen += 1
        yield message
