"""Read a dataset's samples once, for all that depends on every one of them."""

from __future__ import annotations

from dataclasses import replace
from operator import methodcaller

from labelloop.domain.abandonment import wanted

from .dataset import Dataset
from .duplicates import EqualSamples, with_duplicates
from .identity import ArrayDigest, ShardDigests, dataset_digest
from .shards import shard_rows
from .threads import in_threads


def identified(dataset: Dataset) -> Dataset:
    """Return ``dataset`` with its digest, the digests of its shards, and its duplicates.

    All come from one reading, so that they describe the same samples even if a file is edited meanwhile.
    """
    if dataset.samples.dtype == object:
        return replace(with_duplicates(dataset), sha256=dataset_digest(dataset))
    whole, shards, equal = ArrayDigest(), ShardDigests(), EqualSamples(len(dataset.samples), dataset.files)
    for rows in wanted(shard_rows(dataset.samples)):
        in_threads(methodcaller("add", dataset.samples[rows]), (whole, shards, equal), chunk=1)
    return replace(
        with_duplicates(dataset, equal),
        sha256=dataset_digest(dataset, whole.hexdigest()),
        shard_digests=tuple(shards.digests),
    )
