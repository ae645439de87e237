"""Make sure that a stream exists with the settings that it must have.

Where the broker's users have keys, services may neither create streams nor change them; the operator does so with
``labelloop broker update``. A service then says what is not as it should be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from nats.aio.client import Client
from nats.js.errors import APIError

from labelloop.errors import NotAllowed, Unready, WrongState
from labelloop.eventlog.conditional_publish import read_or_make
from labelloop.eventlog.retry import broker_is_away, retry_while_away
from labelloop.eventlog.stream_differences import Difference, differences, mended, said
from labelloop.eventlog.streams import StreamSpec

_TIMEOUT_S = 3
_COMMAND = "`labelloop broker update`"
_FORGETS = frozenset({"retention", "max_msgs", "max_msgs_per_subject", "max_age", "max_bytes"})

log = structlog.get_logger()


async def ensure_stream(client: Client, spec: StreamSpec) -> None:
    """Create a stream if it does not exist, and correct its settings where that is safe and allowed.

    What this may not correct is logged as ``stream_differs``, once a call. The broker's errors pass through.

    Raises:
        WrongState: If the stream has settings by which messages may be lost or forged.
        Unready: If it does not exist and may not be created.
    """
    standing = await read_or_make(lambda: read_settings(client, spec.name), lambda: create_stream(client, spec))
    found = differences(spec, standing)
    check_safe(spec, found)
    if changeable := [each for each in found if each.can_change]:
        await _mend(client, spec, standing, changeable)
    if others := [each for each in found if not each.can_change]:
        log.warning("stream_differs", stream=spec.name, problem=said(others))


async def wait_for_stream(client: Client, spec: StreamSpec) -> None:
    """As :func:`ensure_stream`, but wait while the broker is away, or has no such stream and lets nobody create it."""
    await retry_while_away(lambda: ensure_stream(client, spec), _may_come)


def _may_come(error: BaseException) -> bool:
    return broker_is_away(error) or (isinstance(error, Unready) and error.reason == "STREAM_MISSING")


async def read_settings(client: Client, name: str) -> Mapping[str, Any]:
    """Return the settings of a stream as the broker has them, all of them; raise NotFoundError if there is none."""
    return await _request(client, f"STREAM.INFO.{name}", {})


async def change_settings(client: Client, name: str, settings: Mapping[str, Any]) -> None:
    """Replace the settings of a stream."""
    await _request(client, f"STREAM.UPDATE.{name}", settings)


async def create_stream(client: Client, spec: StreamSpec) -> Mapping[str, Any]:
    """Create a stream and return its settings. Raises Unready if only the operator may create it."""
    try:
        return await _request(client, f"STREAM.CREATE.{spec.name}", spec.config)
    except NotAllowed as error:
        message = f"the broker has no stream {spec.name}, and only its operator may create it: run {_COMMAND}"
        raise Unready("STREAM_MISSING", message, retry_after_s=_TIMEOUT_S, stream=spec.name) from error


async def _mend(client: Client, spec: StreamSpec, standing: Mapping[str, Any], found: Sequence[Difference]) -> None:
    settings = mended(spec, standing, found)
    try:
        await change_settings(client, spec.name, settings)
    except NotAllowed:
        log.warning("stream_differs", stream=spec.name, problem=said(found), mend_with=_COMMAND)
        return
    log.info("stream_mended", stream=spec.name, was=said(found))


def check_safe(spec: StreamSpec, found: Sequence[Difference]) -> None:
    """Raise WrongState if one of the differences can lose or forge messages."""
    unsafe = [each for each in found if not each.is_safe]
    if not unsafe:
        return
    forgets = any(each.setting in _FORGETS for each in unsafe)
    message = f"stream {spec.name} cannot be used: {said(unsafe)}; {_remedy(unsafe)}"
    raise WrongState("STREAM_FORGETS" if forgets else "STREAM_UNSAFE", message, stream=spec.name)


def _remedy(unsafe: Sequence[Difference]) -> str:
    check = "find out who set this and what was lost or written"
    if all(each.can_change for each in unsafe):
        return f"{check}, then run {_COMMAND}"
    return f"{check}; the broker cannot change it back: create the stream anew, from a backup if it held anything"


async def _request(client: Client, what: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Send a request to the broker's API and return the stream's settings from its answer.

    This asks the broker itself: the client library leaves out settings that it does not know, on both ways.
    """
    reply = await client.request(f"$JS.API.{what}", json.dumps(body).encode(), timeout=_TIMEOUT_S)
    answer = json.loads(reply.data)
    if error := answer.get("error"):
        APIError.from_error(error)
    config: Mapping[str, Any] = answer["config"]
    return config
