"""Write times for people: in the zone of this machine, with its name. What programs read is in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def local_time(at: datetime | Timestamp) -> str:
    """Return a time to the minute, for example ``2026-11-30 14:05 CET``. A datetime without a zone is in UTC."""
    moment = at.ToDatetime(UTC) if isinstance(at, Timestamp) else at
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        moment = moment.astimezone()
    except (OverflowError, ValueError, OSError):  # beyond what the zone's table covers
        moment = moment.astimezone(UTC)
    return f"{moment:%Y-%m-%d %H:%M %Z}"
