"""Limit what connections to gRPC servers may hold and how long they may ask nothing."""

from __future__ import annotations

from labelloop.runtime.descriptors import listener_budget

CONNECTIONS_MAX = 10_000  # about 20 KB each while they ask nothing
CALLS_OF_ONE_MAX = 256  # at once on one connection; clients queue the rest
_HANDSHAKE_MS = 10_000  # from a connection to its TLS handshake and the settings of HTTP/2
_IDLE_MS = 120_000  # a connection without calls; clients open another when they need it
_ASK_MS, _ANSWER_MS = 30_000, 20_000  # a peer that has sent nothing is pinged, and is gone if it does not answer


def connection_limits() -> list[tuple[str, int]]:
    """Return the options of a server's connections; they take at most a quarter of the process's descriptors.

    gRPC does not tell peers apart, and closes what is too many as soon as it comes, so the limit is far above what
    services need: it keeps descriptors for the broker, stores and files.
    """
    return [
        ("grpc.max_allowed_incoming_connections", listener_budget(CONNECTIONS_MAX)),
        ("grpc.max_concurrent_streams", CALLS_OF_ONE_MAX),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.http2.settings_timeout", _HANDSHAKE_MS),
        ("grpc.max_connection_idle_ms", _IDLE_MS),
        ("grpc.keepalive_time_ms", _ASK_MS),
        ("grpc.keepalive_timeout_ms", _ANSWER_MS),
    ]
