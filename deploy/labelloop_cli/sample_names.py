"""Look up samples by name, and names of samples, in a run's pool or in a dataset."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Protocol

import grpc
from labelloop.domain.class_names import as_number, comparable
from labelloop.errors import InvalidInput, NotFound, from_rpc
from labelloop.events.v1.events_pb2 import DatasetSource, PoolPublished
from labelloop.oracle.v1.oracle_pb2 import FindSamplesRequest, FindSamplesResponse, NamedSample

_AT_ONCE = 4_000  # a request may have 8 MiB: 2 KiB for each name


class Finder(Protocol):
    """The part of the oracle's client that finds samples."""

    def FindSamples(self, request: FindSamplesRequest) -> AsyncIterable[FindSamplesResponse]: ...  # noqa: N802


class SampleNames:
    """Names of the samples of a run's pool or, before a run, of a dataset."""

    def __init__(self, finder: Finder, run_id: str = "", dataset: DatasetSource | None = None) -> None:
        self._finder, self._pool = finder, FindSamplesRequest(run_id=run_id, dataset=dataset)

    async def ids_of(self, names: Sequence[str]) -> list[int]:
        """Return the samples' ids, in the order of ``names``. Raises NotFound for a name that the pool lacks."""
        found: list[int] = []
        for start in range(0, len(names), _AT_ONCE):
            some = [comparable(name) for name in names[start : start + _AT_ONCE]]
            found += [sample.sample_id async for sample in self._found(names=some)]
        return found

    async def of(self, sample_ids: Sequence[int]) -> dict[int, str]:
        """Return names by id; a sample without a name has its id. Raises InvalidInput for an id that the pool lacks.

        For many samples, all names are read: the oracle would read all of them for each part.
        """
        if not sample_ids:
            return {}
        if len(sample_ids) <= _AT_ONCE:
            return {sample.sample_id: sample.name async for sample in self._found(sample_ids=sample_ids)}
        wanted = set(sample_ids)
        found = {sample.sample_id: sample.name async for sample in self._found() if sample.sample_id in wanted}
        if missing := wanted - found.keys():
            message = f"the pool has no sample {min(missing)}"
            raise InvalidInput("UNKNOWN_SAMPLE", message, field="sample_ids", sample_id=min(missing))
        return found

    async def own(self, sample_ids: Sequence[int]) -> dict[int, str]:
        """Return names by id as :meth:`of` does, but none where no sample has a name other than its id."""
        found = await self.of(sample_ids)
        return found if any(name != str(sample_id) for sample_id, name in found.items()) else {}

    async def all_ids(self) -> dict[str, int]:
        """Return the id of every sample of the pool by its name, as names are compared."""
        return {comparable(sample.name): sample.sample_id async for sample in self._found()}

    async def first_equal(self, pool: PoolPublished) -> dict[int, int]:
        """Return for each sample of ``pool`` that equals an earlier one the first that it equals, by id."""
        if not pool.duplicate_count:
            return {}
        return {sample.sample_id: sample.equal_to async for sample in self._found() if sample.HasField("equal_to")}

    async def meant(self, texts: Sequence[str]) -> list[int]:
        """Return the samples that ``texts`` mean: by name, or by id where no sample bears that name.

        Raises NotFound for a text that means none, and InvalidInput for an id that the pool lacks.
        """
        try:
            return await self.ids_of(texts)
        except NotFound:
            return [await self._meant(text) for text in texts]

    async def _meant(self, text: str) -> int:
        try:
            return (await self.ids_of([text]))[0]
        except NotFound:
            number = as_number(comparable(text))
            if number is None or number != int(number) or not 0 <= number < 2**32:
                raise
            return next(iter(await self.of([int(number)])))

    async def _found(self, names: Sequence[str] = (), sample_ids: Sequence[int] = ()) -> AsyncIterator[NamedSample]:
        request = FindSamplesRequest(names=names, sample_ids=sample_ids)
        request.MergeFrom(self._pool)
        try:
            async for part in self._finder.FindSamples(request):
                for sample in part.samples:
                    yield sample
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) or error from error
