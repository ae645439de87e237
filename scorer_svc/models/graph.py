"""Run a validated ONNX graph over samples."""

from __future__ import annotations

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

from scorer_svc.models.cost import Cost
from scorer_svc.models.limits import MULTIPLY_ADDS_MAX
from scorer_svc.models.ort_session import open_session
from scorer_svc.models.running import Stopped, current_stop
from scorer_svc.models.validation import FEATURES, TooCostly, validated, values_each

_DTYPES: dict[int, str] = {
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.STRING: TEXT_DTYPE,
}
_TOKENS_AT_ONCE = 500_000  # a string of 32 bytes or more each, twice: texts are padded to the longest
_TILE_VALUES = 6_000_000  # 24 MB of intermediate values
_RUN_BYTES = 512 * 1024 * 1024  # of all values of a run, in whatever order they are computed
_STEP_MULTIPLY_ADDS = 2_000_000_000  # of one step of a run, which nothing can interrupt
_TILES = [size for size in range(TILE_SAMPLES, 0, -1) if TILE_SAMPLES % size == 0]  # so that shards hold whole tiles


class Graph:
    """What an artifact computes: for each sample's values, or for each text, an answer.

    InvalidInput if it is not a valid graph.

    Attributes:
        input_name: name of the samples in the graph.
        feature_count: values of a sample; 1 for texts.
        answer_count: values of an answer.
        dtype: type of a sample's values, "uint8" or "float32"; "utf8" for texts.
        takes_missing: whether values may be missing (NaN), as in tables.
        work: multiply-adds for one sample; other steps are counted as so many as they take time.

    Args:
        field: the request field that names the graph, for error messages.
        multiply_adds_max: how many a sample may take.
    """

    limits = FEATURES

    def __init__(self, data: bytes, digest: str, *, field: str, multiply_adds_max: int = MULTIPLY_ADDS_MAX) -> None:
        self.data, self._field = data, field
        try:
            vetted = validated(data, self.limits, multiply_adds_max)
            self._session = open_session(data)
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            reason = "MODEL_TOO_COSTLY" if isinstance(error, TooCostly) else "BAD_MODEL"
            message = f"artifact {digest} cannot serve as a model: {error}"
            raise InvalidInput(reason, message, field=field, model=digest) from error
        graph, cost = vetted.model.graph, vetted.cost
        samples, [answer] = graph.input[0], graph.output
        self._input, self._output = samples.name, answer.name
        self.input_name: str = samples.name
        self.feature_count: int = values_each(samples)
        self.answer_count: int = answer.type.tensor_type.shape.dim[1].dim_value
        self.dtype: str = _DTYPES[samples.type.tensor_type.elem_type]
        self._takes_column = self.dtype == TEXT_DTYPE and len(samples.type.tensor_type.shape.dim) == 2
        self.takes_missing = any(node.op_type == "IsNaN" for node in graph.node)
        self.work = cost.total
        widest = max(map(values_each, (samples, *graph.value_info, *graph.output)))
        self._run_samples = max(1, min(_TILE_VALUES // widest, _most_of(cost)))
        self._tile_samples = next(size for size in _TILES if size <= self._run_samples)

    def answers(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Compute ``[n, answers]`` for samples ``[n, *shape]``, in tiles of one size, since sums may depend on it.

        Texts ``[n]`` are computed as many at a time as memory for their longest allows.
        """
        if self.dtype == TEXT_DTYPE:
            return np.concatenate([self._run(self._session, part) for part in _in_parts(samples, self._tile_samples)])
        flat, size = samples.reshape(len(samples), -1), self._tile_samples
        return np.concatenate([self._tile(flat[i : i + size]) for i in range(0, len(flat), size)])

    def is_open_for(self, dtype: str) -> bool:
        """Return whether samples of ``dtype`` can be classified at once; opening a session takes longer than that."""
        return self.dtype == dtype or self.dtype == TEXT_DTYPE or "_float_session" in self.__dict__

    def classify(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Compute ``[n, answers]`` for images ``[n, features]``, uint8 or float32, or for texts ``[n]``.

        If the graph takes pixels, floats are pixels from 0 to 255. Tiles are not padded, because nothing is ranked by
        these answers.
        """
        if self.dtype == TEXT_DTYPE:
            return self.answers(images)
        session = self._session if images.dtype == self.dtype else self._float_session
        most = self._run_samples
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
        stop, outputs, inputs = current_stop(), [self._output], {self._input: rows}
        try:
            if stop is None:
                return session.run(outputs, inputs)[0]  # type: ignore[no-any-return]
            with stop.run() as options:
                return session.run(outputs, inputs, options)[0]  # type: ignore[no-any-return]
        except Stopped:
            raise
        except Exception as error:  # a graph that loads may still fail
            raise InvalidInput("BAD_MODEL", f"the model fails on these samples: {error}", field=self._field) from error


def _most_of(cost: Cost) -> int:
    """Return of how many samples one run may be, for its memory and for the time until it can be ended."""
    return min(_RUN_BYTES // max(1, cost.held_bytes), _STEP_MULTIPLY_ADDS // max(1, cost.heaviest))


def _in_parts(texts: NDArray[Any], most: int) -> Iterator[NDArray[Any]]:
    """Cut texts ``[n]`` into parts of at most ``most``, and of few enough tokens when padded, but for single texts."""
    start = longest = 0
    for end, text in enumerate(texts):
        longest = max(longest, len(text))
        if end > start and (end - start == most or longest * (end + 1 - start) > _TOKENS_AT_ONCE):
            yield texts[start:end]
            start, longest = end, len(text)
    yield texts[start:]
