"""Compute a function of many items in a few threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from labelloop.domain.abandonment import passed_on, wanted

_THREADS = min(4, os.cpu_count() or 1)  # each may hold a decoded picture
_CHUNK = 64  # items of a task

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Sequence[Item], chunk: int = _CHUNK) -> list[Result]:
    """Return ``function`` of each item, in order. For functions that wait for I/O or release the interpreter's lock.

    Each thread takes ``chunk`` items at a time.
    """

    def several(start: int) -> list[Result]:
        return [function(item) for item in wanted(items[start : start + chunk])]

    with ThreadPoolExecutor(_THREADS) as threads:
        return [
            result for results in threads.map(passed_on(several), range(0, len(items), chunk)) for result in results
        ]
