"""Connect to NATS: wait for the broker at the start, and reconnect after its outages."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionReconnectingError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from labelloop.errors import InvalidInput, NotAllowed, Unready
from labelloop.eventlog.nkey import read_key
from labelloop.rpc.certificates import Renewals
from labelloop.rpc.tls import client_context
from labelloop.runtime.cancellation import was_cancelled, without_losing_cancellation
from labelloop.settings import ServiceSettings

_RECONNECT_WAIT_S = 1
_REQUEST_TIMEOUT_S = 3
_REACH_TIMEOUT_S = 3
_PING_EVERY_S, _PINGS_OUTSTANDING = 2, 2  # a node that falls silent is given up after 4 to 6 seconds
_GOODBYE_S = 2.0
_FORBIDDEN = re.compile(r"permissions violation for publish to \"([^\"]+)\"", re.IGNORECASE)

log = structlog.get_logger()


class _Connection(Client):
    """A NATS client that outlives dead nodes, raises an error for forbidden requests and loses no cancellation.

    nats-py closes a connection over TLS by waiting for the other side's goodbye, 30 seconds if that is dead. Here, a
    connection that is given up is aborted, and what waited for a reply on it fails at once.

    NATS does not reply to a forbidden request but reports it separately. Every wait of nats-py that may lose a
    cancellation is overridden here, including those of its own tasks, so that closing ends the attempts to reconnect.
    """

    def __init__(self, name: str, renewals: Renewals | None = None) -> None:
        super().__init__()
        self._name, self._renewals = name, renewals
        self._waiting: defaultdict[str, set[asyncio.Future[Exception]]] = defaultdict(set)

    def refuse(self, subject: str) -> None:
        """Fail the pending requests to ``subject``, ignoring case: nats-py reports errors in lower case."""
        message = f"the broker does not let {self._name} publish under {subject}: see its users' permissions"
        self._fail(subject.lower(), NotAllowed("FORBIDDEN_BY_BROKER", message, user=self._name, subject=subject))

    def _fail(self, subject: str, error: Exception) -> None:
        for failure in self._waiting.get(subject, ()):
            if not failure.done():
                failure.set_result(error)

    async def request(self, subject: str, *arguments: Any, **options: Any) -> Msg:
        """Send a request and return the reply.

        Raises:
            NotAllowed: At once, if the broker forbids it.
            ConnectionReconnectingError: If the connection is lost before the reply arrives.
        """
        failure = asyncio.get_running_loop().create_future()
        waiting = self._waiting[subject.lower()]
        waiting.add(failure)
        asking = asyncio.ensure_future(super().request(subject, *arguments, **options))
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())  # mark it as retrieved
        try:
            await asyncio.wait({asking, failure}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
        finally:
            asking.cancel()
            waiting.discard(failure)
            if not waiting:
                self._waiting.pop(subject.lower(), None)
        raise failure.result()

    async def close(self) -> None:
        try:
            await without_losing_cancellation(super().close())
        except asyncio.CancelledError:
            if was_cancelled():
                raise
            # An attempt to reconnect was cancelled, not this task, and with it the closing of the socket, which both
            # awaited.
        finally:
            self._abort()  # nats-py does nothing if another task began to close, even if that was cancelled

    async def _close(self, *arguments: Any) -> None:
        """Close the connection, and abort it if the other side does not say goodbye within two seconds."""
        aborting = asyncio.get_running_loop().call_later(_GOODBYE_S, self._abort)
        try:
            await super()._close(*arguments)
        except ConnectionError as error:  # the other side is gone: there is nothing to say goodbye to
            log.debug("broker_gone_at_close", error=str(error))
        finally:
            aborting.cancel()

    async def _attempt_reconnect(self) -> None:
        self._abort()
        for subject in list(self._waiting):
            self._fail(subject, ConnectionReconnectingError())
        await super()._attempt_reconnect()

    def _abort(self) -> None:
        """Drop the connection without a goodbye."""
        writer: asyncio.StreamWriter | None = getattr(self._transport, "_io_writer", None)
        if writer:
            writer.transport.abort()

    async def _flush_pending(self, *arguments: Any, **options: Any) -> Any:
        return await without_losing_cancellation(super()._flush_pending(*arguments, **options))

    async def _process_pong(self) -> None:
        """Count the answer to a ping whose sender no longer waits, which nats-py would report as an error."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_connect_init(self) -> None:
        await without_losing_cancellation(super()._process_connect_init())

    async def _connect_to_server(self, *arguments: Any) -> None:
        self._abort()  # nats-py leaves it open if an attempt fails half way
        if self._renewals:
            self.options["tls"] = _context(self._renewals)
        await without_losing_cancellation(super()._connect_to_server(*arguments))


def _context(renewals: Renewals) -> ssl.SSLContext:
    try:
        return client_context(renewals)
    except InvalidInput as error:
        raise NatsError(error.message) from error  # which nats-py reports before it tries again


async def connect(url: str, name: str, *, tls_dir: Path | None = None, nkey_file: Path | None = None) -> Client:
    """Connect to the broker, waiting for it however long that takes.

    Args:
        url: The broker's URL, or those of several nodes, separated by commas.
        name: The client's name, which also determines the subjects of its replies.
        tls_dir: The folder of certificates; None for no TLS.
        nkey_file: The file with the seed of the client's key; None for no key.

    Raises:
        InvalidInput: If the certificates or the key cannot be used.
    """
    if nkey_file:
        read_key(nkey_file)
    said: set[str] = set()

    async def on_error(error: Exception) -> None:
        text = str(error) or type(error).__name__
        if forbidden := _FORBIDDEN.search(text):
            client.refuse(forbidden[1])
        if text not in said:  # one line per outage, not four a second
            log.warning("broker_unreachable" if not forbidden else "broker_permission_denied", url=url, error=text)
        said.add(text)

    async def on_disconnect() -> None:
        if not client.is_closed:
            log.warning("broker_disconnected", url=url)

    async def on_reconnect() -> None:
        said.clear()
        log.info("broker_reconnected", url=url)

    renewals = Renewals(tls_dir) if tls_dir else None
    client = _Connection(name, renewals)
    try:
        await client.connect(
            url.split(","),
            name=name,
            tls=client_context(renewals) if renewals else None,
            signature_cb=signer(client, nkey_file) if nkey_file else None,
            inbox_prefix=inbox_prefix(name),
            connect_timeout=2,
            reconnect_time_wait=_RECONNECT_WAIT_S,
            max_reconnect_attempts=-1,
            error_cb=on_error,
            disconnected_cb=on_disconnect,
            reconnected_cb=on_reconnect,
            ping_interval=_PING_EVERY_S,
            max_outstanding_pings=_PINGS_OUTSTANDING,
        )
    except BaseException:
        await client.close()
        raise
    return client


async def connect_service(settings: ServiceSettings, name: str) -> Client:
    """Connect a service to the broker as its settings say."""
    return await connect(settings.nats_url, name, tls_dir=settings.tls_dir, nkey_file=settings.nats_nkey_file)


def signer(client: Client, nkey_file: Path) -> Callable[[str], bytes]:
    """Return a ``signature_cb`` for ``client.connect`` that signs the broker's nonce with the key in ``nkey_file``.

    The file is read at each connection: it may be replaced while a service runs, and the key stays in memory no longer
    than needed.
    """

    def sign(nonce: str) -> bytes:
        try:
            key = read_key(nkey_file)
        except InvalidInput as error:
            raise NatsError(error.message) from error  # which nats-py reports before it tries again
        client._public_nkey = key.public  # sent with the signature; nats-py has no public name for it
        return base64.b64encode(key.sign(nonce.encode()))

    return sign


def inbox_prefix(name: str) -> str:
    """Return the prefix of the subjects on which a user receives replies: each may read only its own."""
    return f"_INBOX_{name}"


async def check_reachable(url: str) -> None:
    """Raise Unready if no broker answers at ``url`` right now."""

    async def quietly(error: Exception) -> None:
        log.debug("broker_unreachable", url=url, error=str(error))

    client = _Connection("check")
    try:
        async with asyncio.timeout(_REACH_TIMEOUT_S):
            await client.connect(url.split(","), allow_reconnect=False, error_cb=quietly)
    except (OSError, NatsError) as error:  # TimeoutError is an OSError
        message = f"no NATS server answers at {url}: start one there, or leave the URL out and one is started here"
        raise Unready("NO_BROKER", message, url=url) from error
    finally:
        await client.close()


async def next_message(subscription: Subscription, within_s: float) -> Msg:
    """Return the next message of ``subscription``. Unlike ``next_msg``, this loses no cancellation.

    Raises:
        TimeoutError: nats-py's, if no message arrives within ``within_s`` seconds.
    """
    return await without_losing_cancellation(subscription.next_msg(timeout=within_s))


def jetstream(client: Client) -> JetStreamContext:
    return client.jetstream(timeout=_REQUEST_TIMEOUT_S)
