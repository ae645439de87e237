"""Let clients such as grpcurl ask a server for its services and messages (gRPC server reflection, v1alpha)."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from labelloop.errors import InvalidInput

_LIBRARY = "grpc_reflection"


def is_installed() -> bool:
    """Return whether the library that reflection needs is there."""
    return find_spec(_LIBRARY) is not None


def add_reflection(server: Any, services: Iterable[str]) -> None:
    """Let ``server`` tell of ``services``, by their full names, and of reflection itself.

    Raises:
        InvalidInput: The library is not installed.
    """
    if not is_installed():
        message = "LABELLOOP_REFLECTION needs grpcio-reflection: install labelloop with the extra `reflection`"
        raise InvalidInput("EXTRA_MISSING", message, field="reflection")
    from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

    names = sorted({*services, reflection.SERVICE_NAME})
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(names), server)
