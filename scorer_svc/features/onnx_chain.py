"""Write feature graphs as chains of operators. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

INPUT, OUTPUT = "samples", "features"
Chain = list[tuple[str, list[str], str, dict[str, Any]]]  # operator, inputs, output, attributes
_OPSET, _IR = 13, 8


def nodes_of(chain: Chain) -> list[NodeProto]:
    return [helper.make_node(kind, inputs, [output], **attributes) for kind, inputs, output, attributes in chain]


def graph_bytes(
    name: str,
    nodes: list[NodeProto],
    weights: dict[str, Any],
    dtype: str,
    value_count: int,
    feature_count: int,
    notes: Mapping[str, str] | None = None,
) -> bytes:
    """Serialise the graph from ``INPUT`` ``[n, value_count]`` of ``dtype``, uint8 or float32, to ``OUTPUT``
    ``[n, feature_count]`` float32, with ``notes`` as its metadata. Equal arguments give equal bytes."""
    taken = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(INPUT, taken, ["n", value_count])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", feature_count])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="labelloop")
    model.ir_version = _IR
    helper.set_model_props(model, dict(notes or {}))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
