"""Answer questions about datasets and published pools: what they hold, and which sample has which name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import overload

import numpy as np
from labelloop.artifacts.formats import dtype_name, sample_shape
from labelloop.domain.duplicates import Duplicates
from labelloop.errors import InvalidInput, WrongState
from labelloop.eventlog.projections import RunProjections
from labelloop.oracle.v1 import oracle_pb2 as pb

from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.dataset import Dataset
from oracle_svc.datasets.known_labels import class_counts, partly_known
from oracle_svc.datasets.matching import found_ids, ids_of
from oracle_svc.datasets.memory import bytes_of, memory_of
from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.samples.published_pools import PublishedPools

_PART = 1_000  # samples in a message


class DatasetQueries:
    """Describes datasets and finds samples in them and in the pools of runs."""

    def __init__(
        self, dataset_cache: DatasetCache, pools: PublishedPools, projections: RunProjections[LabelingState]
    ) -> None:
        self._dataset_cache, self._pools, self._projections = dataset_cache, pools, projections

    async def describe(self, request: pb.DescribeDatasetRequest) -> pb.DescribeDatasetResponse:
        """Describe a dataset, and find samples of an earlier pool in it if the request names one.

        Raises WrongState if one of those samples is missing, or the dataset has samples of another kind.
        """
        dataset = await self._dataset_cache.get(request.dataset)
        found: Sequence[int] = ()
        if request.pool_sha256:
            found = await self._found(request.pool_sha256, list(request.sample_ids), dataset)
        evaluation = dataset.evaluation_labels
        partly = partly_known(dataset)
        told = {*request.known_ids, *found}
        more = [sample_id for sample_id in partly.ids if sample_id not in told]
        known = np.array([*request.known_ids, *found, *more], np.uint32)
        return pb.DescribeDatasetResponse(
            sample_count=len(dataset.samples),
            shape=sample_shape(dataset.samples),
            dtype=dtype_name(dataset.samples),
            classes=dataset.classes,
            has_labels=dataset.labels is not None,
            evaluation_count=0 if evaluation is None else len(evaluation),
            description=dataset.description,
            stand_in=dataset.stand_in,
            has_graph=bool(dataset.graph),
            dataset_sha256=dataset.sha256,
            found_ids=found,
            notes=dataset.notes,
            layout=dataset.layout,
            class_counts=class_counts(dataset),
            has_names=bool(dataset.names),
            pool_bytes=await asyncio.to_thread(bytes_of, dataset),
            read_seconds=dataset.read_s,
            oracle_bytes=await asyncio.to_thread(memory_of, dataset),
            duplicate_count=len(dataset.duplicates),
            repeated_count=len(known) - len(np.unique(dataset.duplicates.first_of(known))),
            shown_layout=dataset.shown.layout if dataset.shown else None,
            partly_known_count=partly.count,
            partly_known_ids=partly.ids,
            partly_known_classes=partly.classes,
        )

    async def _found(self, pool_sha256: str, sample_ids: list[int], dataset: Dataset) -> list[int]:
        manifest = await self._pools.manifest(pool_sha256)
        kind, wanted = (dtype_name(dataset.samples), sample_shape(dataset.samples)), (manifest.dtype, manifest.shape)
        if kind != wanted:
            message = (
                f"samples of {dataset.name} are {_kind(*kind)}, but those of the run to continue are "
                f"{_kind(*wanted)}: prepare them alike (for pictures see --size), or start without --continues"
            )
            raise WrongState("DATASET_CHANGED", message, field="continues")
        digests = await self._pools.digests(pool_sha256, sample_ids)
        names = await self._pools.names(pool_sha256, sample_ids)
        return await asyncio.to_thread(found_ids, sample_ids, digests, names, dataset)

    async def find(self, request: pb.FindSamplesRequest) -> AsyncIterator[pb.FindSamplesResponse]:
        """Yield samples by id and name, of a dataset or of a run's pool.

        Raises InvalidInput for an id outside the pool, NotFound for an unknown name.
        """
        names, duplicates = await self._pool(request)
        if request.names:
            chosen: Sequence[int] = await asyncio.to_thread(ids_of, request.names, names)
        else:
            chosen = list(request.sample_ids) or range(len(names))
        for sample_id in request.sample_ids:
            if sample_id >= len(names):
                message = f"sample {sample_id} lies outside the pool, whose ids end at {len(names) - 1}"
                raise InvalidInput("UNKNOWN_SAMPLE", message, field="sample_ids", sample_id=sample_id)
        for part in _parts(chosen):
            first = duplicates.first_of(np.array(part, np.uint32)).tolist()
            samples = [
                pb.NamedSample(sample_id=each, name=names[each], equal_to=equal if equal != each else None)
                for each, equal in zip(part, first, strict=True)
            ]
            yield pb.FindSamplesResponse(samples=samples)

    async def _pool(self, request: pb.FindSamplesRequest) -> tuple[Sequence[str], Duplicates]:
        """Return the name of each sample, its id where samples have none, and those that equal an earlier one."""
        if request.run_id:
            pool = self._projections.get(request.run_id).pool
            if pool is None:
                message = f"the pool of run {request.run_id!r} is not published yet"
                raise WrongState("NO_POOL", message, run_id=request.run_id)
            return await self._names(pool.pool_sha256), await self._pools.duplicates(pool)
        dataset = await self._dataset_cache.get(request.dataset)
        return (dataset.names or IdNames(len(dataset.samples))), dataset.duplicates

    async def _names(self, pool_sha256: str) -> Sequence[str]:
        manifest = await self._pools.manifest(pool_sha256)
        if not any(shard.index for shard in manifest.shards):
            return IdNames(manifest.sample_count)
        names: list[str] = []
        async for first, part in self._pools.all_names(pool_sha256):
            names.extend(name or str(sample_id) for sample_id, name in enumerate(part, first))
        return names


class IdNames(Sequence[str]):
    """The names of samples that have none: their ids."""

    def __init__(self, count: int) -> None:
        self._ids = range(count)

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        return list(map(str, self._ids[place])) if isinstance(place, slice) else str(self._ids[place])


def _parts(sample_ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(sample_ids), _PART):
        yield sample_ids[start : start + _PART]


def _kind(dtype: str, shape: Sequence[int]) -> str:
    return f"{'x'.join(map(str, shape))} {dtype}"
