"""ONNX models ready to run, kept by digest."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from labelloop.wire.artifacts import ArtifactStore
from labelloop.wire.loading import Loaded
from numpy.typing import NDArray

from scorer_svc.graph import Graph
from scorer_svc.linear import linear_softmax
from scorer_svc.screen import Screen
from scorer_svc.screening import Screening
from scorer_svc.vetting import MODEL

_KEPT = 64


class Model(Graph):
    """A graph from samples, or features of them, to probabilities of ``class_count`` classes."""

    limits = MODEL

    def __init__(self, data: bytes, digest: str, screening: Screening | None = None) -> None:
        super().__init__(data, digest, field="model_sha256")
        self.class_count = self.answer_count
        self._screening = screening or Screening()

    @cached_property
    def screen(self) -> Screen | None:
        """The faster first pass over pools; None where there is none for this model."""
        return self._screening.of(linear_softmax(self.data))

    def probabilities(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """``[n, classes]`` for samples ``[n, *shape]``.

        In memory column by column: what is then done with them runs along n, ten times as fast.
        """
        return np.asfortranarray(self.answers(samples))


def models(artifacts: ArtifactStore, screening: Screening) -> Loaded[str, Model]:
    """Models by digest; NotFound, Corrupt or InvalidInput where there is none."""

    async def load(digest: str) -> Model:
        return Model(await artifacts.get(digest), digest, screening)

    return Loaded(load, kept=_KEPT)
