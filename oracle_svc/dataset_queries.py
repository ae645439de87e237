"""Answer questions about datasets and published pools: what they hold, and which sample has which name."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol, TypeVar, overload

import numpy as np
from labelloop.artifacts.formats import dtype_name, sample_shape
from labelloop.domain.duplicates import Duplicates
from labelloop.errors import InvalidInput, WrongState
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import PoolPublished
from labelloop.oracle.v1 import oracle_pb2 as pb
from labelloop.runtime.threads import in_thread

from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.dataset import Dataset
from oracle_svc.datasets.known_labels import class_counts, partly_known
from oracle_svc.datasets.matching import found_ids, ids_of
from oracle_svc.datasets.memory import bytes_of, memory_of
from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.samples.published_pools import PublishedPools

_PART = 1_000  # samples in a message

T = TypeVar("T")


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
            pool_bytes=await in_thread(None, bytes_of, dataset),
            read_seconds=dataset.read_s,
            oracle_bytes=await in_thread(None, memory_of, dataset),
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
        return await in_thread(None, found_ids, sample_ids, digests, names, dataset)

    async def find(self, request: pb.FindSamplesRequest) -> AsyncIterator[pb.FindSamplesResponse]:
        """Yield samples by id and name, of a dataset or of a run's pool, in the order asked for.

        Raises InvalidInput for an id outside the pool, NotFound for an unknown name.
        """
        if not request.run_id:
            dataset = await self._dataset_cache.get(request.dataset)
            held: _Names = _DatasetNames(dataset.names or IdNames(len(dataset.samples)))
            duplicates = dataset.duplicates
        else:
            pool = self._pool_of(request.run_id)
            held, duplicates = _PoolNames(self._pools, pool), await self._pools.duplicates(pool)
        if not request.names and not request.sample_ids:
            for part in _parts(range(held.count)):
                yield _found(part, await held.of(part), duplicates)
            return
        chosen = await held.find(request.names) if request.names else array("I", request.sample_ids)
        _check_ids(chosen, held.count)
        names = await held.of(chosen)  # of all at once, so that the names of each shard are read once
        for part, called in zip(_parts(chosen), _parts(names), strict=True):
            yield _found(part, called, duplicates)

    def _pool_of(self, run_id: str) -> PoolPublished:
        archived = self._projections.archived.readable(run_id)
        pool = archived.pool if archived else self._projections.get(run_id).pool
        if pool is None:
            message = f"the pool of run {run_id!r} is not published yet"
            raise WrongState("NO_POOL", message, run_id=run_id)
        return pool


class _Names(Protocol):
    """The names of the samples of a dataset or pool; that of a sample without one is its id."""

    count: int

    async def find(self, names: Sequence[str]) -> Sequence[int]:
        """Return the samples of these names, in their order. NotFound for an unknown one."""
        ...

    async def of(self, sample_ids: Sequence[int]) -> Sequence[str]: ...


class _DatasetNames:
    def __init__(self, names: Sequence[str]) -> None:
        self._names, self.count = names, len(names)

    async def find(self, names: Sequence[str]) -> Sequence[int]:
        return await in_thread(None, ids_of, names, self._names)

    async def of(self, sample_ids: Sequence[int]) -> Sequence[str]:
        return [self._names[sample_id] for sample_id in sample_ids]


class _PoolNames:
    """Reads the names of those samples only that are asked for."""

    def __init__(self, pools: PublishedPools, pool: PoolPublished) -> None:
        self._pools, self._digest, self.count = pools, pool.pool_sha256, pool.sample_count

    async def find(self, names: Sequence[str]) -> Sequence[int]:
        return await self._pools.find(self._digest, names)

    async def of(self, sample_ids: Sequence[int]) -> Sequence[str]:
        names = await self._pools.names(self._digest, sample_ids)
        return [name or str(sample_id) for name, sample_id in zip(names, sample_ids, strict=True)]


def _check_ids(sample_ids: Sequence[int], count: int) -> None:
    """Raise InvalidInput for the first id that is not below ``count``."""
    for sample_id in sample_ids:
        if sample_id >= count:
            message = f"sample {sample_id} lies outside the pool, whose ids end at {count - 1}"
            raise InvalidInput("UNKNOWN_SAMPLE", message, field="sample_ids", sample_id=sample_id)


def _found(sample_ids: Sequence[int], names: Sequence[str], duplicates: Duplicates) -> pb.FindSamplesResponse:
    first = duplicates.first_of(np.array(sample_ids, np.uint32)).tolist()
    samples = [
        pb.NamedSample(sample_id=each, name=name, equal_to=equal if equal != each else None)
        for each, name, equal in zip(sample_ids, names, first, strict=True)
    ]
    return pb.FindSamplesResponse(samples=samples)


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


def _parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _PART):
        yield values[start : start + _PART]


def _kind(dtype: str, shape: Sequence[int]) -> str:
    return f"{'x'.join(map(str, shape))} {dtype}"
