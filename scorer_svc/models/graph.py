"""Run a validated ONNX graph over samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from labelloop.artifacts.formats import TILE_SAMPLES
from labelloop.domain.abandonment import check_wanted
from labelloop.domain.limits import TEXT_DTYPE
from labelloop.errors import InvalidInput
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from scorer_svc.models.ort_session import open_session
from scorer_svc.models.validation import FEATURES, validated, values_each

_DTYPES: dict[int, str] = {
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.STRING: TEXT_DTYPE,
}
_TOKENS_AT_ONCE = 500_000  # a string of 32 bytes or more each, twice: texts are padded to the longest
_TILE_VALUES = 6_000_000  # 24 MB of intermediate values
_TILES = [size for size in range(TILE_SAMPLES, 0, -1) if TILE_SAMPLES % size == 0]  # so that shards hold whole tiles


class Graph:
    """What an artifact computes: for each sample's values, or for each text, an answer.

    InvalidInput if it is not a valid graph.

    Attributes:
        feature_count: values of a sample; 1 for texts.
        answer_count: values of an answer.
        dtype: type of a sample's values, "uint8" or "float32"; "utf8" for texts.
        takes_missing: whether values may be missing (NaN), as in tables.
        work: the largest number of values that any step of the graph holds of one sample, or has as weights for texts.

    Args:
        field: the request field that names the graph, for error messages.
    """

    limits = FEATURES

    def __init__(self, data: bytes, digest: str, *, field: str) -> None:
        self.data, self._field = data, field
        try:
            graph = validated(data, self.limits).graph
            self._session = open_session(data)
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            message = f"artifact {digest} cannot serve as a model: {error}"
            raise InvalidInput("BAD_MODEL", message, field=field, model=digest) from error
        [samples], [answer] = graph.input, graph.output
        self._input, self._output = samples.name, answer.name
        self.feature_count: int = values_each(samples)
        self.answer_count: int = answer.type.tensor_type.shape.dim[1].dim_value
        self.dtype: str = _DTYPES[samples.type.tensor_type.elem_type]
        self._takes_column = self.dtype == TEXT_DTYPE and len(samples.type.tensor_type.shape.dim) == 2
        self.takes_missing = any(node.op_type == "IsNaN" for node in graph.node)
        self.work = max(map(values_each, (*graph.input, *graph.value_info, *graph.output)))
        self._tile_samples = next(size for size in _TILES if size * self.work <= _TILE_VALUES or size == 1)
        if self.dtype == TEXT_DTYPE:
            self.work = max([self.work, *(math.prod(weight.dims) for weight in graph.initializer)])

    def answers(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Compute ``[n, answers]`` for samples ``[n, *shape]``, in tiles of one size, since sums may depend on it.

        Texts ``[n]`` are computed as many at a time as memory for their longest allows.
        """
        if self.dtype == TEXT_DTYPE:
            return np.concatenate([self._run(self._session, part) for part in _in_parts(samples, self._tile_samples)])
        flat, size = samples.reshape(len(samples), -1), self._tile_samples
        return np.concatenate([self._tile(flat[i : i + size]) for i in range(0, len(flat), size)])

    def classify(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Compute ``[n, answers]`` for images ``[n, features]``, uint8 or float32, or for texts ``[n]``.

        If the graph takes pixels, floats are pixels from 0 to 255. Tiles are not padded, because nothing is ranked by
        these answers.
        """
        if self.dtype == TEXT_DTYPE:
            return self.answers(images)
        session = self._session if images.dtype == self.dtype else self._float_session
        most = max(1, _TILE_VALUES // self.work)
        if len(images) <= most:
            return self._run(session, images)
        return np.concatenate([self._run(session, images[i : i + most]) for i in range(0, len(images), most)])

    @cached_property
    def _float_session(self) -> InferenceSession:
        """A session of the same graph that takes float32."""
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
        check_wanted()
        rows = rows.reshape(-1, 1) if self._takes_column else rows
        try:
            answer: NDArray[np.float32] = session.run([self._output], {self._input: rows})[0]
        except Exception as error:  # a graph that loads may still fail
            raise InvalidInput("BAD_MODEL", f"the model fails on these samples: {error}", field=self._field) from error
        return answer


def _in_parts(texts: NDArray[Any], most: int) -> Iterator[NDArray[Any]]:
    """Cut texts ``[n]`` into parts of at most ``most``, and of few enough tokens when padded, but for single texts."""
    start = longest = 0
    for end, text in enumerate(texts):
        longest = max(longest, len(text))
        if end > start and (end - start == most or longest * (end + 1 - start) > _TOKENS_AT_ONCE):
            yield texts[start:end]
            start, longest = end, len(text)
    yield texts[start:]
