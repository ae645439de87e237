"""The machine under load: the cores of client and server, and how busy the server's are."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import grpc

from tests.bench.cores import busy_s, cpu_s


@dataclass(frozen=True)
class Cores:
    """Half of the cores for client and server each; a single core is shared."""

    client: frozenset[int]
    server: frozenset[int]

    @property
    def are_apart(self) -> bool:
        return not self.client & self.server


def cores() -> Cores:
    """Divide the cores that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    half = len(usable) // 2
    return Cores(frozenset(usable[:half] or usable), frozenset(usable[half:]))


@contextmanager
def running_on(chosen: Collection[int]) -> Iterator[None]:
    """Restrict this thread, and what it starts meanwhile, to these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass
class Share:
    """Fractions of the server's cores, in [0, 1], used by the services under load and by other processes."""

    services: float = 0.0
    others: float = 0.0


@dataclass(frozen=True)
class Watched:
    """Services by process id, and the cores that they run on."""

    pids: tuple[int, ...]
    cores: frozenset[int] = field(default_factory=frozenset)

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Measure the use; the result is set at the end."""
        share = Share()
        services_s, busy, began = self._services_s(), self._busy_s(), time.monotonic()
        yield share
        whole = (time.monotonic() - began) * len(self.cores)
        share.services = (self._services_s() - services_s) / whole
        share.others = max(0.0, (self._busy_s() - busy) / whole - share.services)

    def _services_s(self) -> float:
        return sum(cpu_s(pid) for pid in self.pids)

    def _busy_s(self) -> float:
        return sum(busy_s(core) for core in self.cores)


def described() -> str:
    """Describe the machine and its software in one line."""
    return (
        f"{os.cpu_count()} cores ({_processor()}), Python {platform.python_version()}, grpcio {grpc.__version__}, "
        f"onnxruntime {version('onnxruntime')}, locust {version('locust')}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
