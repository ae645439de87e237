"""Files mapped into memory: bounded in bytes, loaded once, and not kept when the cache has removed them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from labelloop.artifacts.mapped_files import Bytes
from labelloop.errors import NotFound

from scorer_svc.pools.window import MappedFile, MappedWindow


class Disk:
    """Files of ten bytes; records loads."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.removed: set[str] = set()
        self.fault: NotFound | None = None
        self.go = asyncio.Event()
        self.go.set()

    def file(self, name: str) -> MappedFile:
        async def load() -> Bytes:
            self.loaded.append(name)
            await self.go.wait()
            if self.fault:
                raise self.fault
            return np.full(10, ord(name), np.uint8)

        return MappedFile(name, 10, load, lambda: name not in self.removed)


async def read(window: MappedWindow, disk: Disk, names: str) -> str:
    """Get these files one after another; return which of them are held now."""
    for name in names:
        assert (await window.get(disk.file(name))).tobytes() == name.encode() * 10
    return "".join(name for name in sorted(set(disk.loaded)) if window.holds(name))


async def test_the_least_recently_used_files_are_unmapped_first() -> None:
    disk, window = Disk(), MappedWindow(35)
    assert await read(window, disk, "abcad") == "acd"
    assert await read(window, disk, "ab") == "abd"
    assert disk.loaded == ["a", "b", "c", "d", "b"]


async def test_a_file_larger_than_the_window_is_held_alone() -> None:
    disk, window = Disk(), MappedWindow(5)
    assert await read(window, disk, "aab") == "b"
    assert disk.loaded == ["a", "b"]


async def test_concurrent_calls_load_a_file_once_even_if_one_is_cancelled() -> None:
    disk, window = Disk(), MappedWindow(100)
    disk.go.clear()
    calls = [asyncio.create_task(window.get(disk.file("a"))) for _ in range(3)]
    await asyncio.sleep(0)
    calls[0].cancel()
    disk.go.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1] is found[2]
    assert disk.loaded == ["a"]


async def test_a_failed_load_is_not_kept() -> None:
    disk, window = Disk(), MappedWindow(100)
    disk.fault = NotFound("UNKNOWN_ARTIFACT", "there is none")
    with pytest.raises(NotFound):
        await window.get(disk.file("a"))
    assert not window.holds("a")
    disk.fault = None
    assert await read(window, disk, "a") == "a"


async def test_files_that_the_cache_has_removed_are_unmapped_at_the_next_load() -> None:
    disk, window = Disk(), MappedWindow(100)
    assert await read(window, disk, "ab") == "ab"
    disk.removed.add("a")
    assert await read(window, disk, "c") == "bc"
    assert await read(window, disk, "a") == "bc"  # which is made room for on the disk at once
