"""An ordered, gapless reading of a whole stream that survives the broker's absences.

nats-py's own ordered consumer does not come back from a broker that restarts, so order is checked here: a gap in the
consumer's sequence, a missed heartbeat or a lost connection makes a new consumer behind the last message seen.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from labelloop.wire.basis import Basis
from labelloop.wire.broker import next_message
from labelloop.wire.metrics import FOLLOWINGS_ANEW
from labelloop.wire.patience import patiently

_HEARTBEAT_S = 2.0
_SILENCE_LIMIT_S = 5.0
_IDLE_LIMIT_S = 60.0

log = structlog.get_logger()


class _OutOfOrder(NatsError):
    """Messages were lost on the way: read anew from behind the last one seen."""


async def follow_stream(
    client: Client,
    js: JetStreamContext,
    stream: str,
    subject: str,
    after: int,
    basis: Basis,
) -> AsyncGenerator[Msg, None]:
    """All messages under ``subject`` behind sequence ``after``, in order, without gap or repeat, for ever.

    ``basis`` notes what was read; each time the broker was out of sight it is in doubt, and settled before going on.
    """
    last = after
    while True:
        subscription = await client.subscribe(client.new_inbox())
        try:
            consumer = _consumer(subscription.subject, subject, last + 1)
            await patiently(partial(js.add_consumer, stream, consumer))
            async with aclosing(_in_order(client, subscription, basis)) as messages:
                async for message in messages:
                    last = message.metadata.sequence.stream
                    basis.note(message)
                    yield message
        except NatsError as error:
            FOLLOWINGS_ANEW.inc()
            log.info("following anew", stream=stream, after_sequence=last, why=str(error) or type(error).__name__)
            if isinstance(error, TimeoutError):  # silence: the connection may lead to a node that is cut off
                await client.force_reconnect()
            basis.in_doubt = True
            await patiently(basis.settle)
        finally:
            if not client.is_closed:
                await subscription.unsubscribe()


def _consumer(inbox: str, subject: str, start: int) -> ConsumerConfig:
    """Ephemeral: the broker forgets it soon after nobody listens on ``inbox`` any more."""
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


async def _in_order(client: Client, subscription: Subscription, basis: Basis) -> AsyncGenerator[Msg, None]:
    seen = 0
    while True:
        message = await next_message(subscription, _SILENCE_LIMIT_S)
        headers = message.headers or {}
        if "Status" in headers:
            if message.reply:  # flow control: the broker sends on when this is answered
                await client.publish(message.reply)
            elif int(headers.get("Nats-Last-Consumer", seen)) != seen:
                raise _OutOfOrder(f"saw {seen} messages of {headers['Nats-Last-Consumer']}")
            elif basis.take_stalled():
                raise _OutOfOrder("the broker holds newer messages and sends none")
            continue
        if message.metadata.sequence.consumer != seen + 1:
            raise _OutOfOrder(f"message {message.metadata.sequence.consumer} came after {seen}")
        seen += 1
        yield message
