"""End runs of ONNX Runtime whose caller has gone or whose deadline has passed.

ONNX Runtime ends a run between two steps of its graph: how long one step may take is bounded where graphs are vetted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TypeVar

from labelloop.runtime.threads import in_thread
from onnxruntime import RunOptions

T = TypeVar("T")


class Stopped(Exception):
    """Nobody waits for the result any more."""


class Stop:
    """Ends the runs of one call, those under way and those that would begin."""

    def __init__(self) -> None:
        self._lock, self._runs, self.is_set = Lock(), set[RunOptions](), False

    @contextmanager
    def run(self) -> Iterator[RunOptions]:
        """Yield the options for a run. Raises Stopped if the call is over, before or during the run."""
        options = RunOptions()
        with self._lock:
            if self.is_set:
                raise Stopped
            self._runs.add(options)
        try:
            yield options
        except Exception as error:
            if self.is_set:
                raise Stopped from error
            raise
        finally:
            with self._lock:
                self._runs.discard(options)

    def set(self) -> None:
        """End all runs; may be called from any thread."""
        with self._lock:
            self.is_set = True
            for options in self._runs:
                options.terminate = True


_CURRENT: ContextVar[Stop | None] = ContextVar("stop", default=None)


def current_stop() -> Stop | None:
    """Return what ends the call that this thread works for; None if nothing does."""
    return _CURRENT.get()


async def stoppable(executor: Executor | None, work: Callable[..., T], *arguments: object) -> T:
    """Run ``work`` as :func:`~labelloop.runtime.threads.in_thread` does; if this is cancelled, end its runs as well."""
    stop = Stop()
    before = _CURRENT.set(stop)
    try:
        return await in_thread(executor, work, *arguments)
    except asyncio.CancelledError:
        stop.set()
        raise
    finally:
        _CURRENT.reset(before)
