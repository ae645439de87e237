"""Read the bodies of HTTP requests, up to a limit."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from labelloop.errors import InvalidInput, LimitExceeded


async def read_body(request: Request, bytes_max: int, advice: str) -> bytes:
    """Return the body.

    Raises:
        LimitExceeded: More than ``bytes_max`` bytes have come; no more are read. The message ends with ``advice``.
        InvalidInput: The client closed the connection before it had sent the body.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > bytes_max:
                message = f"the body is larger than {bytes_max} bytes: {advice}"
                raise LimitExceeded("BODY_TOO_LARGE", message, most=bytes_max)
    except ClientDisconnect as error:
        raise InvalidInput("BODY_CUT_OFF", "the connection was closed within the body: send it again") from error
    return bytes(body)


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a body holds; None if it holds anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
