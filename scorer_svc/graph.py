"""A vetted ONNX graph, ready to run over samples."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import onnx
from labelloop.wire.errors import InvalidInput
from labelloop.wire.pools import TILE_SAMPLES
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from scorer_svc.session import open_session
from scorer_svc.vetting import FEATURES, values_each, vetted

_DTYPES: dict[int, str] = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT: "float32"}
_TILE_VALUES = 6_000_000  # 24 MB of what is computed on the way
_TILES = [size for size in range(TILE_SAMPLES, 0, -1) if TILE_SAMPLES % size == 0]  # so that shards hold whole tiles


class Graph:
    """What an artifact computes: for ``feature_count`` values of ``dtype`` a sample, an answer of ``answer_count``.

    ``work`` is the largest number of values that it computes of one sample on the way. ``field`` is what a request
    names it by. InvalidInput for what is no such graph.
    """

    limits = FEATURES

    def __init__(self, data: bytes, digest: str, *, field: str) -> None:
        self.data, self._field = data, field
        try:
            graph = vetted(data, self.limits).graph
            self._session = open_session(data)
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            message = f"artifact {digest} cannot serve as a model: {error}"
            raise InvalidInput("BAD_MODEL", message, field=field, model=digest) from error
        [samples], [answer] = graph.input, graph.output
        self._input, self._output = samples.name, answer.name
        self.feature_count: int = samples.type.tensor_type.shape.dim[1].dim_value
        self.answer_count: int = answer.type.tensor_type.shape.dim[1].dim_value
        self.dtype: str = _DTYPES[samples.type.tensor_type.elem_type]
        self.work = max(map(values_each, (*graph.input, *graph.value_info, *graph.output)))
        self._tile_samples = next(size for size in _TILES if size * self.work <= _TILE_VALUES or size == 1)

    def answers(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """``[n, answers]`` for samples ``[n, *shape]``, in tiles of one size: sums may depend on the tile's size."""
        flat, size = samples.reshape(len(samples), -1), self._tile_samples
        return np.concatenate([self._tile(flat[i : i + size]) for i in range(0, len(flat), size)])

    def classify(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """``[n, answers]`` for images ``[n, features]``, uint8 or float32; floats stand for pixels from 0 to 255 where
        the graph takes pixels. Nothing is ordered by these, so that no tile need be filled."""
        session = self._session if images.dtype == self.dtype else self._float_session
        most = max(1, _TILE_VALUES // self.work)
        if len(images) <= most:
            return self._run(session, images)
        return np.concatenate([self._run(session, images[i : i + most]) for i in range(0, len(images), most)])

    @cached_property
    def _float_session(self) -> InferenceSession:
        """The same graph, to be fed with float32."""
        model = onnx.load_model_from_string(self.data)
        [fed] = [each for each in model.graph.input if each.name == self._input]
        fed.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        try:
            return open_session(model.SerializeToString())
        except Exception as error:
            message = f"the model takes {self.dtype} only: post that"
            raise InvalidInput("WRONG_DTYPE", message, field="dtype", model_dtype=self.dtype) from error

    def _tile(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        count = len(rows)
        if missing := self._tile_samples - count:
            rows = np.concatenate([rows, np.zeros((missing, rows.shape[1]), rows.dtype)])
        return self._run(self._session, rows)[:count]

    def _run(self, session: InferenceSession, rows: NDArray[Any]) -> NDArray[np.float32]:
        try:
            answer: NDArray[np.float32] = session.run([self._output], {self._input: rows})[0]
        except Exception as error:  # a graph that loads may still fail
            raise InvalidInput("BAD_MODEL", f"the model fails on these samples: {error}", field=self._field) from error
        return answer
