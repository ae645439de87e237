"""A scorer without a trainer: its models cannot be read, so its answers before the load are the reference."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
from labelloop.errors import Corrupt, LabelloopError, from_rpc
from labelloop.scorer.v1 import scorer_pb2 as pb
from numpy.typing import NDArray

from labelloop_cli.clients import Clients

_NO_IMAGE, _NO_PIXELS = "BAD_IMAGES", "WRONG_DTYPE"


async def made_up_images(clients: Clients, count: int, *, model: str = "", run_id: str = "") -> NDArray[np.generic]:
    """Noise ``[count, features]``, as the model takes it."""
    dtype, refusal = "uint8", await _refusal(clients, "uint8", model, run_id)
    if refusal.reason == _NO_PIXELS:
        dtype = refusal.values["model_dtype"]
        refusal = await _refusal(clients, dtype, model, run_id)
    if refusal.reason != _NO_IMAGE:
        raise refusal
    features = int(refusal.values["image_size"]) // np.dtype(dtype).itemsize
    noise = np.random.default_rng(0)
    if dtype == "uint8":
        return noise.integers(0, 256, (count, features), np.uint8)
    return noise.standard_normal((count, features), np.float32)


async def _refusal(clients: Clients, dtype: str, model: str, run_id: str) -> LabelloopError:
    """The error for a request without images, which states an image's size. Corrupt if there is none."""
    try:
        await clients.scorer.Score(_request(dtype, b"", model, run_id))
    except grpc.aio.AioRpcError as error:
        if ours := from_rpc(error):
            return ours
        raise
    raise Corrupt("NOTHING_SCORED", "the scorer answers a request that holds no image: is it a scorer of ours?")


def _request(dtype: str, images: bytes, model: str, run_id: str) -> pb.ScoreRequest:
    name: dict[str, Any] = {"model_sha256": model} if model else {"run_id": run_id}
    return pb.ScoreRequest(dtype=dtype, images=images, with_probabilities=True, **name)


async def unloaded_answer(
    clients: Clients, images: NDArray[np.generic], *, model: str = "", run_id: str = ""
) -> tuple[str, NDArray[np.float32]]:
    """The model's digest, and its probabilities ``[n, classes]``."""
    answer = await clients.scorer.Score(_request(str(images.dtype), images.tobytes(), model, run_id))
    return answer.model_sha256, np.array(answer.probabilities, np.float32).reshape(len(images), -1)
