"""Tell how much memory a dataset takes. Pure functions."""

from __future__ import annotations

import mmap
import sys

import numpy as np
from labelloop.domain.sample_array import SampleArray

from .dataset import Dataset
from .duplicates import BYTES_A_SAMPLE
from .shards import shard_bytes_max

_SHARDS_HELD = 3  # while a pool is published: an array, its bytes, and what the store makes of them


def samples_bytes(samples: SampleArray) -> int:
    """Return how many bytes the samples have, of texts in UTF-8."""
    if samples.dtype == object:
        return sum(len(text.encode(errors="surrogatepass")) for text in samples[:])
    return samples.nbytes


def bytes_of(dataset: Dataset) -> int:
    """Return how many bytes the samples of a dataset have, with what people see in place of them."""
    return samples_bytes(dataset.samples) + (samples_bytes(dataset.shown.samples) if dataset.shown else 0)


def memory_of(dataset: Dataset) -> int:
    """Return about how many bytes of memory the oracle takes for a dataset at most, when it reads or publishes it."""
    count = len(dataset.samples)
    arrays = (dataset.labels, dataset.evaluation_samples, dataset.evaluation_labels)
    kept = sum(array.nbytes for array in arrays if array is not None)
    held = _held(dataset.samples) + (_held(dataset.shown.samples) if dataset.shown else 0)
    shards = _SHARDS_HELD * min(shard_bytes_max(dataset.samples), max(held, dataset.samples.nbytes))
    return held + kept + max(count * BYTES_A_SAMPLE, shards)


def _held(samples: SampleArray) -> int:
    """Return the bytes of samples in memory: none of those in files, also if they are mapped."""
    if not isinstance(samples, np.ndarray):
        return 0
    if samples.dtype == object:
        return samples.nbytes + sum(map(sys.getsizeof, samples))
    base: object = samples
    while isinstance(base, np.ndarray):
        base = base.base
    is_mapped = isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap)
    return 0 if is_mapped else samples.nbytes
