"""The peer PyTriton: Triton listens and batches, this process computes predictions."""

# The library is in an environment of its own.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from tests.bench.peers.softmax_model import SoftmaxModel

_BATCH_MAX = 1024


def serve(model_file: str, http_port: int, grpc_port: int, metrics_port: int) -> None:
    model = SoftmaxModel(model_file)

    def score(images: NDArray[np.uint8]) -> dict[str, Any]:
        return {"answer": np.frombuffer(model.answer(images.tobytes()), np.float32).reshape(-1, 2)}

    ports = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    hosts = {"http_address": "127.0.0.1", "grpc_address": "127.0.0.1", "metrics_address": "127.0.0.1"}
    with Triton(config=TritonConfig(**ports, **hosts)) as triton:
        triton.bind(
            model_name="scorer",
            infer_func=batch(score),
            inputs=[Tensor(name="images", dtype=np.uint8, shape=(784,))],
            outputs=[Tensor(name="answer", dtype=np.float32, shape=(2,))],
            config=ModelConfig(max_batch_size=_BATCH_MAX),
        )
        triton.serve()


if __name__ == "__main__":
    serve(sys.argv[1], *map(int, sys.argv[2:5]))
