"""Answer requests of the Open Inference Protocol by the models, limits and threads of ``Score``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol, TypeVar

from labelloop.domain.limits import TEXT_DTYPE
from labelloop.errors import InvalidInput, LabelloopError
from labelloop.rpc.admission import Bound, Turns
from labelloop.runtime.async_cache import AsyncCache
from labelloop.runtime.threads import in_thread
from labelloop.scorer.v1 import scorer_pb2 as pb

from scorer_svc.inference.naming import ModelNames, Named
from scorer_svc.inference.outputs import PROBABILITIES
from scorer_svc.inference.tensors import Tensor, sample_count, score_request
from scorer_svc.models.model import Model
from scorer_svc.scoring.score import Scoring

_INLINE_VALUES = 20_000  # converted in a millisecond or two
_BOUND = Bound(["v2 conversion"], at_once=1, waiting=16, where="a thread `converting`")

T = TypeVar("T")


class PostedTensor(Protocol):
    """A tensor as it was posted, whose elements are read once it is known that the model takes them.

    Attributes:
        name: its name.
        datatype: type of its elements.
        shape: sizes of its dimensions.
        value_count: how many elements must be converted one by one.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    value_count: int

    def read(self, count: int) -> Tensor:
        """Read the elements, ``count`` of them by the shape. InvalidInput if they are others."""
        ...


class Inference:
    """Finds models and classifies tensors.

    Args:
        scoring: That of ``Score``: small requests are answered at once, large ones in its thread, or refused.
        converting: An executor of one thread, for elements that are not posted as bytes.
    """

    def __init__(
        self, names: ModelNames, models: AsyncCache[str, Model], scoring: Scoring, converting: Executor | None
    ) -> None:
        self.names = names
        self._models, self._scoring, self._converting = models, scoring, converting
        self._turns = Turns("v2 conversion", _BOUND)

    async def model(self, name: str, version: str) -> tuple[Named, Model]:
        """Return the model of a name and version, loaded.

        Raises:
            NotFound: There is none.
            LabelloopError: It cannot be loaded, as ``Score`` says it.
        """
        named = self.names.find(name, version)
        return named, await self._models.get(named.digest)

    async def is_ready(self, name: str, version: str) -> bool:
        """Return whether there is such a model and it answers; load it if it is not in memory."""
        try:
            await self.model(name, version)
        except LabelloopError:
            return False
        return True

    def sample_shape(self, named: Named, model: Model) -> Sequence[int]:
        """Return the shape of a sample that the model takes; that of a text is [1]."""
        if model.dtype == TEXT_DTYPE:
            return (1,)
        shape = self.names.sample_shape(named.name)
        return shape if math.prod(shape) == model.feature_count else (model.feature_count,)

    async def infer(
        self, named: Named, model: Model, inputs: Sequence[PostedTensor], outputs: Sequence[str]
    ) -> pb.ScoreResponse:
        """Classify the samples of the one tensor in ``inputs``.

        Raises:
            InvalidInput: The model does not take these tensors.
            LimitExceeded: As ``Score`` does.
        """
        tensor, count = self._taken(named, model, inputs)
        request = await self.converted(tensor.value_count, self._request, tensor, count, PROBABILITIES in outputs)
        return await self._scoring.score(request, model, named.digest)

    def infer_at_once(
        self, name: str, version: str, inputs: Sequence[PostedTensor], outputs: Sequence[str]
    ) -> tuple[Named, pb.ScoreResponse] | None:
        """Classify few samples as :meth:`infer` does, if their classes alone are wanted; None if it must be asked.

        Raises:
            LabelloopError: What :meth:`model` and :meth:`infer` would raise.
        """
        named = self.names.find(name, version)
        model = None if PROBABILITIES in outputs else self._models.at_hand(named.digest)
        if model is None or model.dtype == TEXT_DTYPE:
            return None
        tensor, count = self._taken(named, model, inputs)
        if tensor.value_count > _INLINE_VALUES:
            return None
        data = self._scoring.score_at_once(self._request(tensor, count, False), model, named.digest)
        return (named, pb.ScoreResponse.FromString(data)) if data else None

    def _taken(self, named: Named, model: Model, inputs: Sequence[PostedTensor]) -> tuple[PostedTensor, int]:
        """Return the one tensor and how many elements it has. InvalidInput if the model does not take it."""
        tensor = only(inputs)
        flat = (model.feature_count,) if list(tensor.shape[1:]) == [model.feature_count] else None
        shape = flat or self.sample_shape(named, model)
        count = sample_count(tensor.name, tensor.datatype, tensor.shape, model, shape)
        if model.dtype != TEXT_DTYPE:
            count *= model.feature_count
        return tensor, count

    def _request(self, tensor: PostedTensor, count: int, with_probabilities: bool) -> pb.ScoreRequest:
        return score_request(tensor.read(count), with_probabilities=with_probabilities)

    async def converted(self, value_count: int, work: Callable[..., T], *arguments: object) -> T:
        """Return ``work(*arguments)``, which converts so many values; in a thread if they are many.

        Raises:
            LimitExceeded: Too many calls wait for that thread.
        """
        if value_count <= _INLINE_VALUES:
            return work(*arguments)
        async with self._turns.turn():
            return await in_thread(self._converting, work, *arguments)


def only(inputs: Sequence[PostedTensor]) -> PostedTensor:
    """Return the one tensor. InvalidInput for none and for several."""
    if len(inputs) != 1:
        told = ", ".join(repr(each.name[:100]) for each in inputs[:5]) or "none"
        message = f"{len(inputs)} inputs are posted ({told}): the model takes one, with all samples"
        raise InvalidInput("BAD_INPUTS", message, field="inputs", posted=len(inputs))
    return inputs[0]
