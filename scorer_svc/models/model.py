"""Load ONNX classifiers and cache them by digest."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from labelloop.artifacts.store import ArtifactStore
from labelloop.runtime.async_cache import AsyncCache
from numpy.typing import NDArray

from scorer_svc.models.graph import Graph
from scorer_svc.models.validation import MODEL
from scorer_svc.prefilter.kernel_choice import PrefilterFactory
from scorer_svc.prefilter.linear_head import linear_softmax
from scorer_svc.prefilter.prefilter import Prefilter

_KEPT = 64


class Model(Graph):
    """A graph from samples, or features of them, to probabilities of ``class_count`` classes."""

    limits = MODEL

    def __init__(self, data: bytes, digest: str, prefilters: PrefilterFactory | None = None) -> None:
        super().__init__(data, digest, field="model_sha256")
        self.class_count = self.answer_count
        self._prefilters = prefilters or PrefilterFactory()

    @cached_property
    def prefilter(self) -> Prefilter | None:
        """The faster first pass over pools; None if there is none for this model."""
        return self._prefilters.of(linear_softmax(self.data))

    def probabilities(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Compute ``[n, classes]`` for samples ``[n, *shape]``.

        The result is column-major: later steps run along n, which is ten times as fast.
        """
        return np.asfortranarray(self.answers(samples))


def models(artifacts: ArtifactStore, prefilters: PrefilterFactory) -> AsyncCache[str, Model]:
    """Return a cache of models by digest; NotFound, Corrupt or InvalidInput if there is none."""

    async def load(digest: str) -> Model:
        return Model(await artifacts.get(digest), digest, prefilters)

    return AsyncCache(load, kept=_KEPT)
