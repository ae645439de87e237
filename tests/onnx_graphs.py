"""Graphs of ONNX for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper


def graph_of(nodes: Sequence[NodeProto], takes: int, weights: Mapping[str, NDArray[Any]] | None = None) -> bytes:
    """Return the graph of ``nodes`` from ``samples`` ``[n, takes]`` to ``features``, whose size is inferred."""
    graph = helper.make_graph(
        nodes,
        "steps",
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["n", takes])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 9
    model = onnx.shape_inference.infer_shapes(model)
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())
