"""Softmax weights as an ONNX graph, built node by node: milliseconds, and the same bytes for the same weights. Pure."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

INPUT, OUTPUT = "samples", "probabilities"
_OPSET, _IR = 13, 8


def to_onnx(weights: NDArray[np.float32], dtype: str) -> bytes:
    """ONNX bytes of a model from samples ``[n, features]`` as the pool holds them to probabilities ``[n, classes]``.

    ``weights`` is ``[classes, features + 1]``, the bias last, for features in the pool's own scale after the 1/255 of
    uint8 pixels; that factor is folded into the weights, which saves a pass over the samples.
    """
    scale = np.float32(1 / 255) if dtype == "uint8" else np.float32(1)
    kernel = np.ascontiguousarray((weights[:, :-1] * scale).T)
    elem = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", [INPUT], ["features"], to=TensorProto.FLOAT),
        helper.make_node("Gemm", ["features", "kernel", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [OUTPUT], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "softmax_regression",
        [helper.make_tensor_value_info(INPUT, elem, ["n", kernel.shape[0]])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", kernel.shape[1]])],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(np.ascontiguousarray(weights[:, -1]), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="labelloop")
    model.ir_version = _IR
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
