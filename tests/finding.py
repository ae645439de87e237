"""An oracle that finds the samples of one pool, for tests of commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from labelloop.domain.class_names import comparable, near_match
from labelloop.errors import InvalidInput, NotFound
from labelloop.oracle.v1.oracle_pb2 import FindSamplesRequest, FindSamplesResponse, NamedSample

_AT_ONCE = 3
NOTHING_EQUAL: Mapping[int, int] = {}


class FakeFinder:
    """Finds samples by the rules of ``FindSamples``, in small parts. Without ``names``, samples are named by ids.

    ``equal`` has the first sample that equals each duplicate.
    """

    def __init__(self, names: Sequence[str] = (), count: int = 0, equal: Mapping[int, int] = NOTHING_EQUAL) -> None:
        self._equal = equal
        self._names = [*names] or [str(sample_id) for sample_id in range(count)]
        self.requests: list[FindSamplesRequest] = []

    async def FindSamples(  # noqa: N802
        self, request: FindSamplesRequest
    ) -> AsyncIterator[FindSamplesResponse]:
        self.requests.append(request)
        ids = [*map(self._id_of, request.names), *map(self._checked, request.sample_ids)]
        if not request.names and not request.sample_ids:
            ids = [*range(len(self._names))]
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            samples = [
                NamedSample(sample_id=each, name=self._names[each], equal_to=self._equal.get(each)) for each in part
            ]
            yield FindSamplesResponse(samples=samples)

    def _id_of(self, name: str) -> int:
        for sample_id, each in enumerate(self._names):
            if comparable(each) == comparable(name):
                return sample_id
        message = f"the pool has no sample {name!r}; {near_match(name, self._names)}"
        raise NotFound("UNKNOWN_NAME", message, name=name)

    def _checked(self, sample_id: int) -> int:
        if sample_id >= len(self._names):
            raise InvalidInput("UNKNOWN_SAMPLE", f"the pool has no sample {sample_id}", sample_id=sample_id)
        return sample_id
