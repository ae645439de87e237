"""Network faults between services, and between services and the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.chaos.proxy import Proxy
from tests.chaos.trial import Fault, Trial

WAYS = ("trainer-broker", "scorer-broker", "oracle-broker", "trainer-scorer")
_LATENCY_S = 0.05
_STALL_S = 4.0

Misbehave = Callable[[Trial, Proxy], Awaitable[None]]


async def _latency(trial: Trial, way: Proxy) -> None:
    way.latency_s = _LATENCY_S
    await asyncio.sleep(_STALL_S)


async def _stall(trial: Trial, way: Proxy) -> None:
    way.stall()
    await asyncio.sleep(trial.rng.uniform(1, 3) * _STALL_S)


async def _half_open(trial: Trial, way: Proxy) -> None:
    way.half_open()


async def _reset(trial: Trial, way: Proxy) -> None:
    way.reset()


async def _resets(trial: Trial, way: Proxy) -> None:
    for _ in range(5):
        await asyncio.sleep(trial.rng.uniform(0, 0.3))
        way.reset()


async def _cut(trial: Trial, way: Proxy) -> None:
    way.cut_after(trial.rng.randrange(200))


async def _refuse(trial: Trial, way: Proxy) -> None:
    way.cut_off()
    await asyncio.sleep(_STALL_S)


_KINDS: dict[str, tuple[str, Misbehave]] = {
    "latency": (f"each piece of data {_LATENCY_S * 1000:.0f} ms late, for {_STALL_S:.0f} s", _latency),
    "stall": ("nothing forwarded and nobody told for 4 to 12 s", _stall),
    "half-open": ("the far side of each connection dropped, the near side not told", _half_open),
    "reset": ("every connection reset", _reset),
    "resets": ("every connection reset five times within 1.5 s", _resets),
    "cut mid-message": ("connections reset after up to 200 more bytes", _cut),
    "refused": (f"connections reset and refused for {_STALL_S:.0f} s", _refuse),
}


def _fault(way: str, kind: str) -> Fault:
    how, misbehave = _KINDS[kind]

    async def make(trial: Trial) -> None:
        await trial.reach(0.05, 0.6)
        proxy = next(found for name, found in trial.world.ways.items() if name == way)
        try:
            await misbehave(trial, proxy)
        finally:
            proxy.heal()
            await trial.over(way.split("-")[0])

    return Fault(f"{way}: {kind}", how, make)


FAULTS = [_fault(way, kind) for way in WAYS for kind in _KINDS]
