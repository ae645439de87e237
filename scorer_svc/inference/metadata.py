"""Describe the scorer and its models as the Open Inference Protocol does. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from labelloop import __version__
from labelloop.inference.v2 import inference_pb2 as pb
from labelloop.rpc.server import REQUEST_BYTES_MAX

from scorer_svc.inference.naming import Named
from scorer_svc.inference.outputs import NAMES, OUTPUT_DATATYPES, PROBABILITIES
from scorer_svc.inference.tensors import DATATYPES, ELEMENT_BYTES
from scorer_svc.models.model import Model

PLATFORM, BACKEND = "onnxruntime_onnx", "onnxruntime"
EXTENSIONS = ("binary_tensor_data", "model_configuration")
_BATCH_MAX = 4_096  # as many texts as a request may have; of small samples it may have more
_CONFIG_TYPES = {
    "UINT8": pb.DataType.TYPE_UINT8,
    "FP32": pb.DataType.TYPE_FP32,
    "INT64": pb.DataType.TYPE_INT64,
    "BYTES": pb.DataType.TYPE_STRING,
}


def server_metadata() -> dict[str, Any]:
    """Return what the server is: its name, version and extensions."""
    return {"name": "labelloop", "version": __version__, "extensions": list(EXTENSIONS)}


def model_metadata(named: Named, model: Model, versions: Sequence[str], shape: Sequence[int]) -> dict[str, Any]:
    """Return what a model takes and gives; ``shape`` is that of a sample."""
    return {
        "name": named.name,
        "versions": list(versions),
        "platform": PLATFORM,
        "inputs": [{"name": model.input_name, "datatype": DATATYPES[model.dtype], "shape": [-1, *shape]}],
        "outputs": [
            {"name": name, "datatype": OUTPUT_DATATYPES[name], "shape": [-1, *_dims(name, model)]} for name in NAMES
        ],
    }


def _dims(name: str, model: Model) -> list[int]:
    return [model.class_count] if name == PROBABILITIES else []


def model_config(named: Named, model: Model, shape: Sequence[int]) -> pb.ModelConfig:
    """Return how a model is set up, as Triton says it; ``shape`` is that of a sample."""
    datatype = DATATYPES[model.dtype]
    sample_bytes = math.prod(shape) * ELEMENT_BYTES.get(datatype, 1)
    config = pb.ModelConfig(
        name=named.name,
        platform=PLATFORM,
        backend=BACKEND,
        max_batch_size=max(1, min(_BATCH_MAX, REQUEST_BYTES_MAX // sample_bytes)),
        input=[pb.ModelInput(name=model.input_name, data_type=_CONFIG_TYPES[datatype], dims=shape)],
    )
    for name in NAMES:
        config.output.add(name=name, data_type=_CONFIG_TYPES[OUTPUT_DATATYPES[name]], dims=_dims(name, model) or [1])
    return config
