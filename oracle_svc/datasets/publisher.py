"""Publish a dataset as artifacts: the pool with its names and originals, labels, evaluation set and feature graph."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import sha256

from labelloop.artifacts.formats import (
    PoolManifest,
    SampleIndex,
    Shard,
    dtype_name,
    encode_duplicates,
    encode_evaluation,
    encode_labels,
    encode_shard,
    sample_shape,
)
from labelloop.artifacts.store import ArtifactStore
from labelloop.domain.sample_array import SampleArray
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import PoolPublished, ShownPool

from oracle_svc.datasets import Dataset
from oracle_svc.datasets.dataset import Original
from oracle_svc.datasets.file_access import open_file
from oracle_svc.datasets.picture_bounds import FILE_BYTES_MAX
from oracle_svc.datasets.shards import shard_rows
from oracle_svc.samples.originals import display

_ORIGINALS_AT_ONCE = 4


Tell = Callable[[int], None]


def _nobody(stored: int) -> None:
    """Tell nobody."""


async def publish(dataset: Dataset, artifacts: ArtifactStore, tell: Tell = _nobody) -> PoolPublished:
    """Store the dataset in ``artifacts`` and return the event that names the artifacts by digest.

    ``tell`` is called with the number of samples stored so far.

    Raises InvalidInput if they are no longer those of the dataset's digest,
    or if a file that people are to see has changed since the dataset was read.
    """
    evaluation = ""
    if dataset.evaluation_samples is not None and dataset.evaluation_labels is not None:
        encoded = await asyncio.to_thread(encode_evaluation, dataset.evaluation_samples, dataset.evaluation_labels)
        evaluation = await artifacts.put(encoded)
    return PoolPublished(
        pool_sha256=await _put_pool(dataset, artifacts, tell),
        sample_count=len(dataset.samples),
        shape=sample_shape(dataset.samples),
        dtype=dtype_name(dataset.samples),
        classes=dataset.classes,
        evaluation_sha256=evaluation,
        description=dataset.description,
        stand_in=dataset.stand_in,
        graph_sha256=await artifacts.put(dataset.graph) if dataset.graph else "",
        labels_sha256=await _put_labels(dataset, artifacts),
        layout=dataset.layout,
        duplicates_sha256=await _put_duplicates(dataset, artifacts),
        duplicate_count=len(dataset.duplicates),
        shown=await _put_shown(dataset, artifacts),
    )


async def _put_labels(dataset: Dataset, artifacts: ArtifactStore) -> str:
    """Store the labels, encoded in a thread; return their digest, empty if there are none."""
    if dataset.labels is None:
        return ""
    return await artifacts.put(await asyncio.to_thread(encode_labels, dataset.labels))


async def _put_duplicates(dataset: Dataset, artifacts: ArtifactStore) -> str:
    """Store which samples are equal, encoded in a thread; return the digest, empty if none are."""
    if not len(dataset.duplicates):
        return ""
    return await artifacts.put(await asyncio.to_thread(encode_duplicates, dataset.duplicates))


async def _put_pool(dataset: Dataset, artifacts: ArtifactStore, tell: Tell = _nobody) -> str:
    """Store the samples with their names and originals, shard by shard, and return the digest of the manifest."""
    shards: list[Shard] = []
    for rows in await asyncio.to_thread(lambda: list(shard_rows(dataset.samples))):
        index = await _put_index(dataset, rows, artifacts)
        digest = await artifacts.put(await asyncio.to_thread(_encoded, dataset.samples, rows))
        if dataset.shard_digests and digest != dataset.shard_digests[len(shards)]:
            raise _samples_changed(dataset, rows)
        shards.append(Shard(sha256=digest, sample_count=rows.stop - rows.start, index=index))
        tell(rows.stop)
    layout = dataset.layout and await artifacts.put(dataset.layout.SerializeToString(deterministic=True))
    shape, dtype = sample_shape(dataset.samples), dtype_name(dataset.samples)
    manifest = PoolManifest.model_validate({"dtype": dtype, "shape": shape, "shards": tuple(shards), "layout": layout})
    return await artifacts.put(manifest.to_bytes())


async def _put_shown(dataset: Dataset, artifacts: ArtifactStore) -> ShownPool | None:
    """Store what people see as a pool of its own, with the same names; None if they see the samples."""
    shown = dataset.shown
    if shown is None:
        return None
    seen = replace(
        dataset,
        samples=shown.samples,
        shard_digests=shown.shard_digests,
        layout=shown.layout,
        originals=shown.originals,
        shown=None,
    )
    return ShownPool(
        pool_sha256=await _put_pool(seen, artifacts),
        shape=sample_shape(shown.samples),
        dtype=dtype_name(shown.samples),
        layout=shown.layout,
    )


def _encoded(samples: SampleArray, rows: slice) -> bytes:
    return encode_shard(samples[rows])


def holds_shards(samples: SampleArray, shards: Iterable[Shard]) -> bool:
    """Return whether ``samples`` [N, *shape] are those of a published pool, in its order."""
    start = 0
    for shard in shards:
        part = samples[start : start + shard.sample_count]
        if sha256(encode_shard(part)).hexdigest() != shard.sha256:
            return False
        start += shard.sample_count
    return start == len(samples)


async def _put_index(dataset: Dataset, rows: slice, artifacts: ArtifactStore) -> str | None:
    """Store what the samples ``rows`` are called and what people see of them; None if that is nothing."""
    names, originals, files = tuple(dataset.names[rows]), dataset.originals[rows], tuple(dataset.files[rows])
    if not (names or files):
        return None
    shown: list[str] = []
    for start in range(0, len(originals), _ORIGINALS_AT_ONCE):
        shown += await _put_originals(originals[start : start + _ORIGINALS_AT_ONCE], artifacts)
    return await artifacts.put(SampleIndex(names=names, originals=tuple(shown), files=files).to_bytes())


async def _put_originals(originals: Sequence[Original], artifacts: ArtifactStore) -> list[str]:
    read = await asyncio.gather(*(asyncio.to_thread(_read, original) for original in originals))
    return await asyncio.gather(*map(artifacts.put, read))


def _read(original: Original) -> bytes:
    """Return what people see of the file. Raises InvalidInput if they are not those that were read into the pool."""
    try:
        with open_file(original.path) as file:
            data = file.read(FILE_BYTES_MAX + 1)  # more was never read into the pool
    except OSError as error:
        raise _changed(original, str(error)) from error
    if sha256(data).hexdigest() != original.sha256:
        raise _changed(original, "its content is another")
    return display(data).content


def _samples_changed(dataset: Dataset, rows: slice) -> InvalidInput:
    which = f"samples {rows.start:,} to {rows.stop - 1:,} are others"
    message = f"the files of {dataset.name} have changed since the pool was read ({which}): start a new run"
    return InvalidInput("DATASET_CHANGED", message, field="dataset.name", name=dataset.name)


def _changed(original: Original, why: str) -> InvalidInput:
    message = f"{original.path} has changed since the pool was read ({why}): start a new run"
    return InvalidInput("DATASET_CHANGED", message, field="dataset.name", path=original.path)
