"""Make a model explain itself to whoever gets the file: metadata, and an input of the samples' own shape. No I/O."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import onnx
from google.protobuf.json_format import MessageToDict
from labelloop.events.v1.events_pb2 import ModelTrained, PoolPublished
from onnx import TensorProto, helper, numpy_helper

from trainer_svc.model.onnx_export import INPUT

_FLAT, _FLAT_SHAPE = "samples_flat", "samples_flat_shape"


def described(model: bytes, run_id: str, round_: int, trained: ModelTrained, pool: PoolPublished) -> bytes:
    """Return a model that was trained in a run, with its facts as metadata and samples ``[n, *shape]`` as its input.

    Its answers are those of ``model``, of which only the input is reshaped.
    """
    made = onnx.load_model_from_string(model)
    _take_shape(made.graph, list(pool.shape))
    helper.set_model_props(made, facts(run_id, round_, trained, pool))
    made.doc_string = f"{pool.description}. Probabilities of: {', '.join(pool.classes)}."
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString(deterministic=True))


def facts(run_id: str, round_: int, trained: ModelTrained, pool: PoolPublished) -> dict[str, str]:
    """Return what the metadata says; lists and the layout are JSON."""
    return {
        "run": run_id,
        "round": str(round_),
        "labels": str(trained.labels),
        "auto_labels": str(trained.auto_labels),
        "classes": json.dumps(list(pool.classes), ensure_ascii=False),
        "shape": json.dumps(list(pool.shape)),
        "dtype": pool.dtype,
        "layout": json.dumps(MessageToDict(pool.layout, preserving_proto_field_name=True), ensure_ascii=False),
        "temperature": f"{trained.temperature:g}" if trained.temperature else "",
        "model_sha256": trained.model_sha256,
        "pool_sha256": pool.pool_sha256,
    }


def _take_shape(graph: onnx.GraphProto, shape: Sequence[int]) -> None:
    """Let a graph take samples ``[n, *shape]`` in place of flat ones; texts and vectors are taken as they are."""
    given = graph.input[0]
    elem = given.type.tensor_type.elem_type
    if len(shape) < 2 or elem == TensorProto.STRING:
        return
    for node in graph.node:
        node.input[:] = [_FLAT if name == INPUT else name for name in node.input]
    graph.node.insert(0, helper.make_node("Reshape", [INPUT, _FLAT_SHAPE], [_FLAT]))
    flat = np.array([0, math.prod(shape)], np.int64)  # 0 keeps the number of samples
    graph.initializer.append(numpy_helper.from_array(flat, _FLAT_SHAPE))
    given.CopyFrom(helper.make_tensor_value_info(INPUT, elem, ["n", *shape]))
