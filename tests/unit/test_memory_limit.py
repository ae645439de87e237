"""The memory that a process may use is that of its container, or of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from labelloop.errors import Corrupt
from labelloop.runtime.memory_limit import memory_limit, smallest_limit

GIB = 1024**3


def limit(tmp_path: Path, own: str, files: dict[str, str], machine: int = 8 * GIB) -> int:
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    (tmp_path / "own").write_text(own)
    return smallest_limit(tmp_path / "groups", tmp_path / "own", machine)


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"memory.max": f"{2 * GIB}\n"}, 2 * GIB),
        ("0::/\n", {"memory.max": "max\n"}, 8 * GIB),
        ("0::/a/b\n", {"a/memory.max": f"{GIB}\n", "a/b/memory.max": f"{3 * GIB}\n"}, GIB),
        ("0::/a/b\n", {"a/memory.max": "max\n", "a/b/memory.max": f"{3 * GIB}\n"}, 3 * GIB),
        ("0::/../../elsewhere\n", {"memory.max": f"{GIB}\n"}, GIB),
        ("5:cpu,memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        ("5:memory:/x\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8 * GIB),
        ("5:cpuset:/x\n", {}, 8 * GIB),
        ("", {}, 8 * GIB),
    ],
)
def test_the_smallest_limit_of_the_groups_counts(
    tmp_path: Path, own: str, files: dict[str, str], expected: int
) -> None:
    assert limit(tmp_path, own, files) == expected


def test_a_machine_without_groups_limits_by_its_memory(tmp_path: Path) -> None:
    assert smallest_limit(tmp_path, tmp_path / "absent", GIB) == GIB


def test_a_limit_that_is_no_number_is_not_taken_for_none(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="'lots', not a number of bytes or max"):
        limit(tmp_path, "0::/\n", {"memory.max": "lots\n"})


def test_this_process_has_a_limit() -> None:
    assert 64 * 1024**2 < memory_limit() < 2**60
