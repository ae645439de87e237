"""Requests of the Open Inference Protocol to send under load. Pure."""

from __future__ import annotations

import numpy as np
from labelloop.inference.v2 import inference_pb2 as pb
from labelloop_cli.load.calls import Calls
from numpy.typing import NDArray

INFER = "/inference.GRPCInferenceService/ModelInfer"
_DATATYPES = {"uint8": "UINT8", "float32": "FP32"}


def infer_calls(pool_images: NDArray[np.generic], images: int, run_id: str, model: str) -> Calls:
    """Return requests that start at each of the images ``[n, features]``, for a model of a run by its digest."""
    bodies = []
    for first in range(len(pool_images)):
        rows = np.take(pool_images, range(first, first + images), axis=0, mode="wrap")
        request = pb.ModelInferRequest(model_name=run_id, model_version=model, raw_input_contents=[rows.tobytes()])
        request.inputs.add(name="samples", datatype=_DATATYPES[str(rows.dtype)], shape=rows.shape)
        for name in ("predicted", "confidence"):
            request.outputs.add(name=name)
        bodies.append(request.SerializeToString())
    return Calls(INFER, images, bodies, list(range(len(pool_images))), model)
