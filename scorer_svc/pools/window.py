"""Keep files mapped into memory, up to a number of bytes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from labelloop.artifacts.mapped_files import Bytes
from labelloop.runtime.shared_task import SharedTask


@dataclass(frozen=True)
class MappedFile:
    """A file of the cache that can be mapped.

    Attributes:
        name: Its name in the cache.
        size: Its size in bytes.
        load: Maps it, after fetching or making it if the cache lacks it.
        is_on_disk: Whether the cache holds it now.
    """

    name: str
    size: int
    load: Callable[[], Coroutine[Any, Any, Bytes]]
    is_on_disk: Callable[[], bool]


class MappedWindow:
    """The most recently used files, up to ``bytes_max`` bytes in all, for all pools of a process.

    The newest file is kept however large it is. A file that the cache has removed is unmapped as soon as another one is
    loaded, because it would take up the disk's space for as long as it is mapped. Concurrent calls for one file load it
    once; a failure is not kept. A load that nobody waits for any more is cancelled.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._files: OrderedDict[str, MappedFile] = OrderedDict()
        self._loads: dict[str, SharedTask[Bytes]] = {}
        self._bytes = 0

    def holds(self, name: str) -> bool:
        """Return whether the file is mapped, or about to be."""
        return name in self._files

    async def get(self, file: MappedFile) -> Bytes:
        """Return the bytes ``[size]`` of a file, or raise the error of its ``load``."""
        load = self._loads.get(file.name)
        if load and load.abandoned:
            self._drop(file.name)
            load = None
        if load is None:
            load = self._begun(file)
        self._files.move_to_end(file.name)
        self._make_room()
        return await load.result()

    def _begun(self, file: MappedFile) -> SharedTask[Bytes]:
        self._files[file.name] = file
        self._bytes += file.size
        load = SharedTask(file.load(), lambda task: self._loaded(file.name, load, task))
        self._loads[file.name] = load
        return load

    def _make_room(self) -> None:
        while self._bytes > self.bytes_max and len(self._files) > 1:
            self._drop(next(iter(self._files)))

    def _drop(self, name: str) -> None:
        del self._loads[name]
        self._bytes -= self._files.pop(name).size

    def _loaded(self, name: str, load: SharedTask[Bytes], task: asyncio.Future[Bytes]) -> None:
        if task.cancelled() or task.exception():
            if self._loads.get(name) is load:
                self._drop(name)
            return
        ready = [name for name, other in self._loads.items() if other.done]
        for removed in [name for name in ready if not self._files[name].is_on_disk()]:
            self._drop(removed)
