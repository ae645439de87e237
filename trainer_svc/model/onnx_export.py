"""Export softmax weights as an ONNX model, alone or joined to a feature graph. No I/O.

The graph is built node by node, which takes milliseconds and gives the same bytes for the same weights.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.compose
from labelloop.artifacts.onnx_bytes import lean
from labelloop.domain.limits import OPTIONAL_COLUMNS
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

INPUT, OUTPUT = "samples", "probabilities"
_OPSET, _IR = 13, 8


def to_onnx(weights: NDArray[np.float32], dtype: str) -> bytes:
    """Export a model from samples ``[n, features]``, as the pool holds them, to probabilities ``[n, classes]``.

    ``weights`` is ``[classes, features + 1]``, the bias last, for features in the pool's own scale, except that uint8
    pixels are scaled by 1/255; that factor is folded into the weights, which saves a pass over the samples.
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
    return _to_bytes(graph, {"": _OPSET}, _IR)


def joined(features: bytes, head: bytes) -> bytes:
    """Join a feature graph and a ``head`` made by :func:`to_onnx` into one ONNX model.

    The names inside ``features`` get a prefix, so that none collides with one of the head's. It takes samples or texts.

    Raises:
        ValueError: If ``features`` is no plain graph, or has an older opset, in which the head's operators mean
            something else.
    """
    lean(features)  # of untrusted bytes, parsers make many times as many
    front, back = (onnx.load_model_from_string(data) for data in (features, head))
    opsets = {each.domain: each.version for each in front.opset_import}
    opset = opsets[""]
    if opset < _OPSET:
        raise ValueError(f"features of opset {opset} cannot stand before a head of opset {_OPSET}")
    first = onnx.compose.add_prefix(front, "features/")
    first.graph.input[0].name, raw = INPUT, first.graph.input[0].name
    for node in first.graph.node:
        node.input[:] = [INPUT if name == raw else name for name in node.input]
    cast = back.graph.node[0]  # not needed: features are float32 already
    rest = [node for node in back.graph.node if node is not cast]
    for node in rest:
        node.input[:] = [first.graph.output[0].name if name == cast.output[0] else name for name in node.input]
    graph = helper.make_graph(
        [*first.graph.node, *rest],
        "softmax_regression_on_features",
        [first.graph.input[0]],
        list(back.graph.output),
        [*first.graph.initializer, *back.graph.initializer],
    )
    return _to_bytes(graph, opsets, max(front.ir_version, _IR))


def optional_columns(features: bytes, width: int) -> int:
    """Return how many of the last of ``width`` columns a fit may leave out, as the feature graph says in its metadata.

    0 where it says nothing.

    Raises:
        ValueError: If ``features`` is no plain graph, or names no such number.
    """
    lean(features)  # of untrusted bytes, parsers make many times as many
    stated = {each.key: each.value for each in onnx.load_model_from_string(features).metadata_props}
    count = stated.get(OPTIONAL_COLUMNS, "0")
    if not count.isascii() or not count.isdigit() or int(count) >= width:
        raise ValueError(f"the feature graph says that {count[:20]!r} of {width} columns may be left out")
    return int(count)


def weights_of(model: bytes) -> NDArray[np.float32]:
    """Return the weights ``[classes, features + 1]`` of a model that :func:`to_onnx` made for float32 features.

    Raises:
        ValueError: If ``model`` is none.
    """
    lean(model)  # of untrusted bytes, parsers make many times as many
    constants = {
        each.name: numpy_helper.to_array(each) for each in onnx.load_model_from_string(model).graph.initializer
    }
    return np.concatenate([constants["kernel"].T, constants["bias"][:, None]], axis=1)


def _to_bytes(graph: onnx.GraphProto, opsets: dict[str, int], ir_version: int) -> bytes:
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = helper.make_model(graph, opset_imports=imports, producer_name="labelloop")
    model.ir_version = ir_version
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
