"""Fetch samples of a run's pool as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from labelloop.domain.sample_layout import as_picture, is_shown, stated_layout
from labelloop.domain.shown_pool import shown_pool
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import PoolPublished
from labelloop.scorer.v1.scorer_pb2 import GetSamplesRequest
from numpy.typing import NDArray

from labelloop_cli.clients import Clients

_PART = 1_000


def has_pictures(pool: PoolPublished) -> bool:
    """Return whether the samples of the pool are pictures that can be displayed."""
    return is_shown(stated_layout(shown_pool(pool)))


async def pictures(clients: Clients, pool: PoolPublished, sample_ids: Sequence[int]) -> list[NDArray[np.uint8]]:
    """Return samples ``[height, width]`` or ``[height, width, channels]``. InvalidInput if they are no pictures."""
    shown = shown_pool(pool)
    layout = stated_layout(shown)
    if not is_shown(layout):
        message = f"samples of type {shown.dtype} and shape {tuple(shown.shape)} are no pictures: leave --images out"
        raise InvalidInput("NO_IMAGES", message, field="images")
    found: list[NDArray[np.uint8]] = []
    for start in range(0, len(sample_ids), _PART):
        request = GetSamplesRequest(pool_sha256=shown.pool_sha256, sample_ids=sample_ids[start : start + _PART])
        answer = await clients.scorer.GetSamples(request)
        flat = np.frombuffer(answer.samples, np.dtype(answer.dtype).newbyteorder("<"))
        found += [as_picture(sample, layout) for sample in flat.reshape(-1, *answer.shape)]
    return found
