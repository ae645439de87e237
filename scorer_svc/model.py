"""ONNX models ready to run, kept by digest."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import onnx
from labelloop.wire.artifacts import ArtifactStore
from labelloop.wire.errors import InvalidInput
from labelloop.wire.loading import Loaded
from labelloop.wire.pools import TILE_SAMPLES
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from scorer_svc.linear import linear_softmax
from scorer_svc.screen import Screen, screen
from scorer_svc.session import open_session
from scorer_svc.vetting import vetted

_KEPT = 64
_DTYPES: dict[int, str] = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT: "float32"}


class Model:
    """What an artifact computes, for ``feature_count`` values of ``dtype`` a sample."""

    def __init__(self, data: bytes, digest: str) -> None:
        self._data = data
        try:
            graph = vetted(data).graph
            self._session = open_session(data)
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            message = f"artifact {digest} cannot serve as a model: {error}"
            raise InvalidInput("BAD_MODEL", message, field="model_sha256", model=digest) from error
        [samples], [answer] = graph.input, graph.output
        self._input, self._output = samples.name, answer.name
        self.feature_count: int = samples.type.tensor_type.shape.dim[1].dim_value
        self.class_count: int = answer.type.tensor_type.shape.dim[1].dim_value
        self.dtype: str = _DTYPES[samples.type.tensor_type.elem_type]

    @cached_property
    def screen(self) -> Screen | None:
        """The faster first pass over pools; None where there is none for this model."""
        return screen(linear_softmax(self._data))

    def probabilities(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """``[n, classes]`` for samples ``[n, *shape]``, in tiles of one size: sums may depend on the tile's size.

        In memory column by column: what is then done with them runs along n, ten times as fast.
        """
        flat = samples.reshape(len(samples), -1)
        tiles = [self._tile(flat[i : i + TILE_SAMPLES]) for i in range(0, len(flat), TILE_SAMPLES)]
        return np.asfortranarray(np.concatenate(tiles))

    def classify(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """``[n, classes]`` for images ``[n, features]``, uint8 or float32; floats stand for pixels from 0 to 255 where
        the model was fitted to pixels. All in one go: nothing is ordered by these, so that no tile need be filled."""
        return self._run(self._session if images.dtype == self.dtype else self._float_session, images)

    @cached_property
    def _float_session(self) -> InferenceSession:
        """The same graph, to be fed with float32."""
        model = onnx.load_model_from_string(self._data)
        [fed] = [each for each in model.graph.input if each.name == self._input]
        fed.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        try:
            return open_session(model.SerializeToString())
        except Exception as error:
            message = f"the model takes {self.dtype} only: post that"
            raise InvalidInput("WRONG_DTYPE", message, field="dtype", model_dtype=self.dtype) from error

    def _tile(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        count = len(rows)
        if count < TILE_SAMPLES:
            rows = np.concatenate([rows, np.zeros((TILE_SAMPLES - count, rows.shape[1]), rows.dtype)])
        return self._run(self._session, rows)[:count]

    def _run(self, session: InferenceSession, rows: NDArray[Any]) -> NDArray[np.float32]:
        try:
            answer: NDArray[np.float32] = session.run([self._output], {self._input: rows})[0]
        except Exception as error:  # a graph that loads may still fail
            raise InvalidInput(
                "BAD_MODEL", f"the model fails on these samples: {error}", field="model_sha256"
            ) from error
        return answer


def models(artifacts: ArtifactStore) -> Loaded[str, Model]:
    """Models by digest; NotFound, Corrupt or InvalidInput where there is none."""

    async def load(digest: str) -> Model:
        return Model(await artifacts.get(digest), digest)

    return Loaded(load, kept=_KEPT)
