"""The model as every peer runs it: ONNX Runtime on one thread, without labelloop."""

from __future__ import annotations

import numpy as np
import onnxruntime


class SoftmaxModel:
    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0]

    def answer(self, images: bytes) -> bytes:
        """Class and confidence of each image, [n, 2] little-endian float32, for [n, 784] uint8."""
        rows = np.frombuffer(images, np.uint8).reshape(-1, self._input.shape[1])
        probabilities = self._session.run(None, {self._input.name: rows})[0]
        answer = np.empty((len(rows), 2), "<f4")
        answer[:, 0] = probabilities.argmax(1)
        answer[:, 1] = probabilities.max(1)
        return answer.tobytes()
