"""Check that services are unharmed: same processes, little more memory, no fault in a log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labelloop_cli.local.stack import Stack

FAULT = re.compile("Traceback|fault of ours|never retrieved")


@contextmanager
def unharmed(stack: Stack, growth_max_bytes: int) -> Iterator[None]:
    """Check at the end of the block that no process restarted, grew by more than this, or logged a fault in it."""
    processes, peaks = _process_ids(stack), _peak_bytes(stack)
    yield
    assert _process_ids(stack) == processes
    grown = {service: peak - peaks[service] for service, peak in _peak_bytes(stack).items()}
    assert max(grown.values()) < growth_max_bytes, grown
    for service in stack.services.values():
        assert not FAULT.search(service.log_file.read_text()), service.name


def _process_ids(stack: Stack) -> dict[str, int]:
    processes = {name: service.process for name, service in stack.services.items()}
    return {name: process.pid for name, process in processes.items() if process and process.returncode is None}


def _peak_bytes(stack: Stack) -> dict[str, int]:
    statuses = {name: Path(f"/proc/{pid}/status").read_text() for name, pid in _process_ids(stack).items()}
    return {name: int(status.partition("VmHWM:")[2].split()[0]) * 1024 for name, status in statuses.items()}
