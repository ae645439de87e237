"""Tell what people see of a pool from what models see of it. Pure functions."""

from __future__ import annotations

from labelloop.events.v1.events_pb2 import PoolPublished, ShownPool


def shown_pool(pool: PoolPublished) -> ShownPool:
    """Return the pool of what people see: that of which ``pool`` has the vectors, or else ``pool`` itself."""
    if pool.HasField("shown"):
        return pool.shown
    layout = pool.layout if pool.HasField("layout") else None
    return ShownPool(pool_sha256=pool.pool_sha256, shape=pool.shape, dtype=pool.dtype, layout=layout)
