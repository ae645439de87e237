"""Tell how much memory this process may use: what its container allows, or what the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

from labelloop.errors import Corrupt

_GROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_FILES = {"": "memory.max", "memory": "memory/memory.limit_in_bytes"}  # by controller: version 2 has one for all


@cache
def memory_limit() -> int:
    """Return the bytes of memory that this process may use, at the time of the first call."""
    return smallest_limit(_GROUPS, _OWN, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def smallest_limit(groups: Path, own: Path, machine: int) -> int:
    """Return the smallest limit of the process's control groups, of those around them, and of the ``machine``.

    Args:
        groups: Where control groups are mounted, of version 1 or 2; in a container, from its own one on.
        own: The file that names the groups of the process; without one, as on macOS, there are none.
        machine: Bytes of memory of the machine.

    Raises:
        Corrupt: A limit is no number.
    """
    return min([machine, *(each for path in _limit_files(groups, own) if (each := _limit_in(path)) > 0)])


def _limit_files(groups: Path, own: Path) -> Iterator[Path]:
    """Yield the files with limits, from the innermost group outwards."""
    for line in own.read_text().splitlines() if own.exists() else ():
        _, controllers, group = line.split(":", 2)
        for controller in controllers.split(","):
            if file := _FILES.get(controller):
                folder, name = (groups / file).parent, (groups / file).name
                inner = PurePosixPath(group.lstrip("/"))
                yield from (folder / each / name for each in (inner, *inner.parents) if ".." not in each.parts)


def _limit_in(path: Path) -> int:
    """Return the limit in the file; 0 for none."""
    try:
        text = path.read_text().strip()
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # a group that this container does not see
        return 0
    if text == "max":
        return 0
    if not text.isdecimal():
        raise Corrupt("MEMORY_LIMIT", f"{path} holds {text[:40]!r}, not a number of bytes or max", path=path)
    return int(text)
