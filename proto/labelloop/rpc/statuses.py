"""Tell what the status of a failed call means for its caller."""

from __future__ import annotations

import grpc

_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


def is_away(error: grpc.aio.AioRpcError) -> bool:
    """Return whether the server was not there for the call, so that it may succeed elsewhere, or a little later.

    gRPC ends calls as CANCELLED that a server has received but not begun when it stops, or is overloaded. A call that
    its caller cancels raises CancelledError instead.
    """
    return error.code() in _AWAY
