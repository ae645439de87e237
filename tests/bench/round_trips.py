"""Time bare round trips of a broker, as a measure of the machine for times that depend on them."""

from __future__ import annotations

import time

import numpy as np
from labelloop.eventlog.connection import connect, jetstream
from nats.js.api import StorageType, StreamConfig

_STREAM, _SUBJECT = "BENCH", "bench.trip"
_BYTES, _TRIPS = 200, 300


async def round_trip_s(nats_url: str) -> float:
    """Return the median seconds from publishing a small message to a stream on disk to its acknowledgement."""
    client = await connect(nats_url, "bench")
    try:
        js = jetstream(client)
        await js.add_stream(StreamConfig(name=_STREAM, subjects=[_SUBJECT], storage=StorageType.FILE))
        seconds = []
        for _ in range(_TRIPS):
            begin = time.perf_counter()
            await js.publish(_SUBJECT, bytes(_BYTES))
            seconds.append(time.perf_counter() - begin)
        await js.delete_stream(_STREAM)
    finally:
        await client.close()
    return float(np.median(seconds))
