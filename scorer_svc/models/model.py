"""Load ONNX classifiers and cache them by digest."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from functools import cached_property
from typing import Any

import numpy as np
import structlog
from labelloop.artifacts.store import ArtifactStore
from labelloop.runtime.async_cache import AsyncCache
from numpy.typing import NDArray

from scorer_svc.models.graph import Graph
from scorer_svc.models.limits import MULTIPLY_ADDS_MAX
from scorer_svc.models.validation import MODEL
from scorer_svc.prefilter.integer_kernel import Unavailable
from scorer_svc.prefilter.kernel_choice import PrefilterFactory
from scorer_svc.prefilter.linear_head import linear_softmax
from scorer_svc.prefilter.prefilter import Prefilter
from scorer_svc.row_kernel.kernel import RowKernel, row_kernel

_KEPT = 64

log = structlog.get_logger()


class Model(Graph):
    """A graph from samples, or features of them, to probabilities of ``class_count`` classes.

    Attributes:
        row_kernel: classifies few samples in less time, with the same answers; None if there is none, or not yet.
    """

    limits = MODEL

    def __init__(
        self,
        data: bytes,
        digest: str,
        prefilters: PrefilterFactory | None = None,
        multiply_adds_max: int = MULTIPLY_ADDS_MAX,
    ) -> None:
        super().__init__(data, digest, field="model_sha256", multiply_adds_max=multiply_adds_max)
        self.class_count = self.answer_count
        self._prefilters = prefilters or PrefilterFactory()
        self.row_kernel: RowKernel | None = None
        self._wants_row_kernel = True

    def wants_row_kernel(self) -> bool:
        """Return whether to call :meth:`make_row_kernel`; true once.

        It is made when a model is first asked for classes of posted images, since most models are only asked to rank.
        """
        wants, self._wants_row_kernel = self._wants_row_kernel, False
        return wants

    def make_row_kernel(self) -> None:
        """Set ``row_kernel`` if one can be made that answers as this model does; log why not otherwise."""
        if self._prefilters.problem:  # as without llvmlite, which was logged
            return
        try:
            self.row_kernel = row_kernel(linear_softmax(self.data), self.classify)
        except Unavailable as error:
            log.warning("row_kernel_unavailable", action="ONNX Runtime answers Score alone", why=str(error))

    @cached_property
    def prefilter(self) -> Prefilter | None:
        """The faster first pass over pools; None if there is none for this model."""
        return self._prefilters.of(linear_softmax(self.data))

    def probabilities(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Compute ``[n, classes]`` for samples ``[n, *shape]``.

        The result is column-major: later steps run along n, which is ten times as fast.
        """
        return np.asfortranarray(self.answers(samples))


def models(
    artifacts: ArtifactStore,
    prefilters: PrefilterFactory,
    vetting: Executor | None = None,
    multiply_adds_max: int = MULTIPLY_ADDS_MAX,
) -> AsyncCache[str, Model]:
    """Return a cache of models by digest; NotFound, Corrupt or InvalidInput if there is none.

    They are checked by ``vetting``, one after the other if it has one thread: each may take a second and much memory.
    """

    async def load(digest: str) -> Model:
        data = await artifacts.get(digest)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(vetting, Model, data, digest, prefilters, multiply_adds_max)

    return AsyncCache(load, kept=_KEPT)
