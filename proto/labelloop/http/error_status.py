"""Map labelloop's errors to HTTP: statuses, bodies and headers."""

from __future__ import annotations

import math

from starlette.responses import JSONResponse, Response

from labelloop.errors import (
    Corrupt,
    InvalidInput,
    LabelloopError,
    LimitExceeded,
    NotAllowed,
    NotFound,
    Unready,
    WrongState,
)

_STATUS: dict[type[LabelloopError], int] = {
    InvalidInput: 400,
    NotAllowed: 403,
    NotFound: 404,
    WrongState: 409,
    LimitExceeded: 429,
    Corrupt: 500,
    Unready: 503,
}
STATUS_FOR_TOOLS = {**_STATUS, NotAllowed: 401, LimitExceeded: 413}  # of annotation tools only size is limited


def http_status(error: LabelloopError) -> int:
    """Return the status that a browser is answered with: of limits, 429 if a retry may help and 413 if not."""
    if isinstance(error, LimitExceeded) and not error.retry_after_s:
        return 413
    return _STATUS[type(error)]


def retry_headers(error: LabelloopError) -> dict[str, str]:
    """Return a Retry-After of whole seconds, at least one, if a retry may help; else no headers."""
    if not error.retry_after_s and not isinstance(error, Unready):
        return {}
    return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}


def refuse_browser(error: LabelloopError) -> Response:
    """Answer a script of the labelling page."""
    return _as_json(error, http_status(error))


def refuse_tool(error: LabelloopError) -> Response:
    """Answer an annotation tool, which authenticates itself with each call: 401 asks it to do so in another way."""
    return _as_json(error, STATUS_FOR_TOOLS[type(error)])


def _as_json(error: LabelloopError, status: int) -> Response:
    told = {"reason": error.reason, "message": error.message}
    return JSONResponse(told, status_code=status, headers=retry_headers(error))
