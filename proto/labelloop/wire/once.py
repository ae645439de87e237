"""A write that only the first writer of a subject makes."""

from __future__ import annotations

from nats.js import JetStreamContext
from nats.js.errors import APIError

_SUBJECT_TAKEN = 10071
_EXPECT_NOTHING = {"Nats-Expected-Last-Subject-Sequence": "0"}


async def publish_once(js: JetStreamContext, subject: str, data: bytes) -> int | None:
    """The new message's sequence, or None where something stands under ``subject`` already; then nothing is written."""
    try:
        return int((await js.publish(subject, data, headers=_EXPECT_NOTHING)).seq)
    except APIError as error:
        if error.err_code != _SUBJECT_TAKEN:
            raise
        return None
