"""Fail a test in which a service's event loop was held for longer than it may be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from labelloop.runtime.loop_lag import HELD_S, loop_lag
from labelloop_cli.local.stack import Service

from tests.integration.watched import samples, value


@asynccontextmanager
async def loop_not_held(most_s: float = HELD_S) -> AsyncIterator[None]:
    """Raise AssertionError at the end if the event loop of this test was held for more than ``most_s`` at a time."""
    async with loop_lag() as lag:
        yield
        held_s = lag.longest_s()
    assert held_s <= most_s, f"the event loop was held for {held_s:.3f} s, but may be for {most_s} s"


def check_loop_not_held(service: Service, most_s: float = HELD_S) -> None:
    """Raise AssertionError if the event loop of a process was held for longer within the last minute.

    ``service`` must serve its metrics, as those of :func:`tests.integration.watched.service` do.
    """
    held_s = value(samples(service), "labelloop_event_loop_lag_seconds")
    assert held_s <= most_s, f"the event loop of {service.name} was held for {held_s:.3f} s, but may be for {most_s} s"
