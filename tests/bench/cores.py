"""Cores for a client and a server, and processor time by /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labelloop.errors import WrongState

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def client_and_server_core() -> tuple[int, int]:
    """Return a core each for client and server. Raise WrongState if there is only one, which they would share."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise WrongState("ONE_CORE", "a client and a server need a core each: run this bench on two cores or more")
    return cores[0], cores[1]


@contextmanager
def starting_on(core: int) -> Iterator[None]:
    """Run processes that are started meanwhile, and all that they start, on ``core`` alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(pid: int) -> float:
    """Return the processor time in seconds, user and system, of a process and its living descendants."""
    return sum(_own_cpu_s(process) for process in family(pid))


def busy_s(core: int) -> float:
    """Return the seconds that a core has worked since the machine started, for any process."""
    lines = Path("/proc/stat").read_text().splitlines()
    user, nice, system, _idle, _iowait, *interrupts = next(
        map(int, line.split()[1:9]) for line in lines if line.startswith(f"cpu{core} ")
    )
    return (user + nice + system + sum(interrupts)) / _TICKS_A_SECOND


def family(pid: int) -> list[int]:
    """Return ``pid`` and its living descendants, parents first."""
    children: dict[int, list[int]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        if fields := _stat(int(process.name)):
            children.setdefault(int(fields[1]), []).append(int(process.name))
    found = [pid]
    for process_id in found:
        found += children.get(process_id, [])
    return found


def _own_cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND if fields else 0.0


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat after the name, the state first; none if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
