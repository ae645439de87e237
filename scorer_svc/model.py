"""ONNX models ready to run, kept by digest."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from labelloop.wire.artifacts import ArtifactStore
from labelloop.wire.errors import InvalidInput
from labelloop.wire.loading import Loaded
from labelloop.wire.pools import TILE_SAMPLES
from numpy.typing import NDArray

_KEPT = 16


def share_memory() -> None:
    """Call once in a process before the first model: all sessions then draw on one arena. A session with an arena of
    its own touches megabytes of fresh memory in its first run, which costs more than the run."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)


class Model:
    """A session on one thread that does not spin: other work needs the core between calls."""

    def __init__(self, data: bytes, digest: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            message = f"artifact {digest} is not a model that ONNX Runtime can load: {error}"
            raise InvalidInput("BAD_MODEL", message, field="model_sha256", model=digest) from error
        self._input, self._output = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self.feature_count: int = self._input.shape[1]

    def probabilities(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """``[n, classes]`` for samples ``[n, *shape]``, in tiles of one size: sums may depend on the tile's size."""
        flat = samples.reshape(len(samples), -1)
        tiles = [self._tile(flat[i : i + TILE_SAMPLES]) for i in range(0, len(flat), TILE_SAMPLES)]
        return np.concatenate(tiles)

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
