"""Tools that people label in: one module each, all behind :class:`~oracle_svc.queues.queue.Queue`."""

from __future__ import annotations

from oracle_svc.queues.queue import Queue


def connected() -> list[Queue]:
    """The tools that the environment names."""
    return []
