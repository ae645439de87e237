"""Tell whether a log is the one that was read before."""

from __future__ import annotations

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from labelloop.snapshots.v1.snapshots_pb2 import LogPosition


async def position_at(js: JetStreamContext, stream: str, sequence: int) -> LogPosition | None:
    """Return the message at ``sequence``, and when it and the stream came about; None if there is no such message.

    A position identifies a message: a stream that was made anew, or rolled back to before it, holds none at the
    sequence, or one that the broker stored at another time.
    """
    created = (await js.stream_info(stream)).created
    try:
        message = await js.get_msg(stream, sequence)
    except NotFoundError:
        return None
    if created is None or message.time is None:
        return None
    return LogPosition(
        stream_created=created.isoformat(),
        sequence=sequence,
        subject=message.subject or "",
        data=message.data or b"",
        taken_at=message.time.isoformat(),
    )
