"""ONNX models ready to run, kept by digest."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from labelloop.wire.artifacts import ArtifactStore
from labelloop.wire.errors import InvalidInput
from labelloop.wire.loading import Loaded
from labelloop.wire.pools import TILE_SAMPLES
from numpy.typing import NDArray

from scorer_svc.linear import linear_softmax
from scorer_svc.screen import Screen, screen
from scorer_svc.session import open_session

_KEPT = 16


class Model:
    """What an artifact computes."""

    def __init__(self, data: bytes, digest: str) -> None:
        try:
            self._session = open_session(data)
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            message = f"artifact {digest} is not a model that ONNX Runtime can load: {error}"
            raise InvalidInput("BAD_MODEL", message, field="model_sha256", model=digest) from error
        self._input, self._output = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self.feature_count: int = self._input.shape[1]
        self._linear = linear_softmax(data)

    @cached_property
    def screen(self) -> Screen | None:
        """The faster first pass over pools; None where there is none for this model."""
        return screen(self._linear)

    def probabilities(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """``[n, classes]`` for samples ``[n, *shape]``, in tiles of one size: sums may depend on the tile's size.

        In memory column by column: what is then done with them runs along n, ten times as fast.
        """
        flat = samples.reshape(len(samples), -1)
        tiles = [self._tile(flat[i : i + TILE_SAMPLES]) for i in range(0, len(flat), TILE_SAMPLES)]
        return np.asfortranarray(np.concatenate(tiles))

    def _tile(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        count = len(rows)
        if count < TILE_SAMPLES:
            rows = np.concatenate([rows, np.zeros((TILE_SAMPLES - count, rows.shape[1]), rows.dtype)])
        answer: NDArray[np.float32] = self._session.run([self._output.name], {self._input.name: rows})[0]
        return answer[:count]


def models(artifacts: ArtifactStore) -> Loaded[str, Model]:
    """Models by digest; NotFound, Corrupt or InvalidInput where there is none."""

    async def load(digest: str) -> Model:
        return Model(await artifacts.get(digest), digest)

    return Loaded(load, kept=_KEPT)
