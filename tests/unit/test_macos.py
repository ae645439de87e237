"""Alternatives to Linux functions that macOS lacks."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest
from labelloop.artifacts.mapped_files import map_file, reserve
from labelloop.runtime.cores import usable_cores


def test_cores_that_the_process_may_use_are_counted() -> None:
    assert usable_cores() == len(os.sched_getaffinity(0))


def test_all_cores_are_counted_where_affinity_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 11)
    assert usable_cores() == 11
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


@pytest.mark.parametrize("missing", ["", "posix_fallocate"])
@pytest.mark.parametrize("size", [1, 1024 * 1024, 2 * 1024 * 1024 + 5])
def test_a_reserved_file_has_its_size_and_its_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, size: int
) -> None:
    if missing:
        monkeypatch.delattr(os, missing)
    reserve(tmp_path / "file", size)
    stat = (tmp_path / "file").stat()
    assert stat.st_size == size
    assert 512 * stat.st_blocks >= size, "a sparse file would have no space"


@pytest.mark.parametrize("missing", ["", "MAP_POPULATE"])
def test_a_file_is_mapped_for_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    if missing:
        monkeypatch.delattr(mmap, missing)
    (tmp_path / "file").write_bytes(b"abc")
    mapped = map_file(tmp_path / "file")
    assert mapped.tobytes() == b"abc"
    assert not mapped.flags.writeable
