"""Cut the samples of a pool into shards, as the artifact store holds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from labelloop.artifacts.formats import SHARD_SAMPLES, TILE_SAMPLES, encode_shard
from labelloop.domain.sample_array import SampleArray
from numpy.typing import NDArray

_ARRAY_BYTES_MAX = 64 * 1024 * 1024
_TEXT_BYTES_MAX = 32 * 1024 * 1024  # scorers hold texts as objects, which take several times as much memory


def shards_of(samples: SampleArray) -> Iterator[tuple[bytes, int]]:
    """Yield the bytes and the number of samples of each shard of ``samples``: ``[n, *shape]``, or ``[n]`` of str.

    All shards but the last hold a multiple of ``TILE_SAMPLES`` samples, at most ``SHARD_SAMPLES`` of them, and at most
    64 MiB (32 MiB of texts) unless a single tile is larger.
    """
    for rows in shard_rows(samples):
        yield encode_shard(samples[rows]), rows.stop - rows.start


def shard_rows(samples: SampleArray) -> Iterator[slice]:
    """Yield the rows of each shard, as described at :func:`shards_of`."""
    if samples.dtype == object:
        yield from _text_rows(samples[:])
        return
    size = min(SHARD_SAMPLES, max(1, _ARRAY_BYTES_MAX // _tile_bytes(samples)) * TILE_SAMPLES)
    for start in range(0, len(samples), size):
        yield slice(start, min(start + size, len(samples)))


def shard_bytes_max(samples: SampleArray) -> int:
    """Return the most bytes that a shard of the samples has."""
    return _TEXT_BYTES_MAX if samples.dtype == object else max(_ARRAY_BYTES_MAX, _tile_bytes(samples))


def _tile_bytes(samples: SampleArray) -> int:
    return max(1, samples.nbytes // max(1, len(samples))) * TILE_SAMPLES


def _text_rows(texts: NDArray[Any]) -> Iterator[slice]:
    lengths = np.fromiter((len(text.encode()) for text in texts), np.int64, len(texts))
    start = end = held = 0
    while end < len(texts):
        tile = slice(end, end + TILE_SAMPLES)
        tile_bytes = int(lengths[tile].sum())
        if end > start and (held + tile_bytes > _TEXT_BYTES_MAX or end - start >= SHARD_SAMPLES):
            yield slice(start, end)
            start, held = end, 0
        held += tile_bytes
        end = min(tile.stop, len(texts))
    yield slice(start, end)
