"""Tell our messages from answers of the broker that ended up under our subjects, and write over those.

A client may name any subject for the answer to its request, whatever it may publish itself, and a stream stores what
arrives under its subjects. Whoever may only read can thus have the broker write under every subject, though not choose
what: a JSON object, or nothing. Such a message must neither stand for one of ours nor take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from labelloop.errors import WrongState
from labelloop.eventlog.conditional_publish import publish_once, publish_over

_STRAYS_MAX = 1_000
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

IsOurs = Callable[[RawStreamMsg], bool]


class NotThereYet(NatsError):
    """The leader that refused a write for another's is gone, and the new one still applies that: try again."""


def is_answer(data: bytes | None) -> bool:
    """Return whether ``data`` may be an answer of the broker. No message of a protocol buffer of ours begins so."""
    return not data or data.startswith(b"{")


def is_no_answer(message: RawStreamMsg) -> bool:
    return not is_answer(message.data)


async def newest(js: JetStreamContext, stream: str, subject: str) -> RawStreamMsg:
    """Return the newest message of a subject that was taken; raise NotThereYet if the leader has not got it."""
    try:
        return await js.get_last_msg(stream, subject)
    except NotFoundError as error:
        raise NotThereYet(f"another was first under {subject}, and the leader has not got its message") from error


async def first_of_ours(js: JetStreamContext, stream: str, subject: str, is_ours: IsOurs) -> RawStreamMsg | None:
    """Return the first message of a subject that is ours; None if there is none.

    Raises:
        WrongState: If more than 1,000 others come first.
    """
    sequence = 1
    for _ in range(_STRAYS_MAX):
        try:
            message = await js.get_msg(stream, sequence, subject=subject, next=True)
        except NotFoundError:
            return None
        if is_ours(message):
            return message
        sequence = (message.seq or 0) + 1
    raise WrongState(
        "SUBJECT_FLOODED",
        f"the first {_STRAYS_MAX:,} messages under {subject} are none of labelloop's: find out who writes there, and "
        "replace the keys of the broker's users",
        subject=subject,
    )


async def publish_first(
    js: JetStreamContext,
    stream: str,
    subject: str,
    data: bytes,
    is_ours: IsOurs = is_no_answer,
    headers: Mapping[str, str] = _NO_HEADERS,
) -> int | None:
    """As :func:`publish_once`, but write although messages stand there that are not ours.

    Returns:
        The sequence of the new message; None if one of ours stood there, and nothing was written.
    """
    if sequence := await publish_once(js, subject, data, headers):
        return sequence
    while True:
        last = await newest(js, stream, subject)
        if is_ours(last) or await first_of_ours(js, stream, subject, is_ours):
            return None
        if sequence := await publish_over(js, subject, data, last.seq or 0, headers):
            return sequence
