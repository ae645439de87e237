"""Extract the weights of a softmax regression from its ONNX graph. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from labelloop.artifacts.onnx_bytes import lean
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

_OPERATORS = ["Cast", "Gemm", "Softmax"]


@dataclass(frozen=True)
class LinearSoftmax:
    """The model ``softmax(samples @ kernel + bias)``.

    Attributes:
        kernel: ``[features, classes]``.
        bias: ``[classes]``.
        dtype: type of the samples.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    dtype: str


def linear_softmax(model: bytes) -> LinearSoftmax | None:
    """Return the weights of ``model`` if it is softmax regression and nothing else; None for any other graph."""
    try:
        nodes = onnx.load_model_from_string(lean(model).data).graph.node  # weights may be many megabytes
        if [node.op_type for node in nodes] != _OPERATORS or any(node.domain for node in nodes):
            return None
        graph = onnx.load_model_from_string(model).graph
    except (DecodeError, ValueError):
        return None
    cast, gemm, softmax = graph.node
    constants = {tensor.name: tensor for tensor in graph.initializer}
    chained = cast.output[0] == gemm.input[0] and gemm.output[0] == softmax.input[0]
    plain = not gemm.attribute and [attribute.i for attribute in cast.attribute] == [TensorProto.FLOAT]
    if not (chained and plain and len(gemm.input) == 3 and {*gemm.input[1:]} <= constants.keys()):
        return None
    kernel, bias = (np.asarray(numpy_helper.to_array(constants[name])) for name in gemm.input[1:])
    over_classes = [attribute.i for attribute in softmax.attribute] in ([1], [-1])
    fitting = (
        kernel.ndim == 2 and bias.shape == kernel.shape[1:] and {kernel.dtype, bias.dtype} == {np.dtype(np.float32)}
    )
    if not (over_classes and fitting):
        return None
    elem = graph.input[0].type.tensor_type.elem_type
    return LinearSoftmax(kernel, bias, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem)).name)
