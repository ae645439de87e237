"""How the calls of a server ended: what a load test holds its own counts against."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.rpc import code_pb2

from labelloop.wire.errors import LabelloopError


class CallCounts:
    """Calls by method and status, counted when a handler of ours is done with them. Those that gRPC refuses itself, as
    beyond its bound of pending calls, reach no handler and are not among them. A stream is one call."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def call(self, method: str, context: Any) -> Iterator[None]:
        """Counts what is done meanwhile as one call."""
        status = "UNKNOWN"  # what gRPC makes of any exception that is not named here
        try:
            yield
            status = "OK"
        except LabelloopError as error:
            status = code_pb2.Code.Name(error.code)
            raise
        except grpc.aio.AbortError:
            status = context.code().name
            raise
        except (asyncio.CancelledError, GeneratorExit):
            status = "CANCELLED"
            raise
        finally:
            self._counts[method, status] += 1

    def by_method(self) -> dict[str, dict[str, int]]:
        """Method to status, as OK or NOT_FOUND, to calls; in alphabetical order."""
        found: dict[str, dict[str, int]] = {}
        for (method, status), count in sorted(self._counts.items()):
            found.setdefault(method, {})[status] = count
        return found
