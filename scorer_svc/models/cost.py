"""Count what a graph computes for one sample, from the shapes of its values. Pure functions.

The unit is a multiply-add of float32 in a product of matrices. Other steps are counted as so many of them as they take
time: the weights below are measured, and rather too high than too low.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from onnx import NodeProto, TensorProto, ValueInfoProto

Shape = Sequence[int]  # of one sample where the first dimension is that of samples; 0 for what is not known

_VALUE = 8  # of a value that a step reads or writes
_VALUE_OF: Mapping[str, int] = {"TopK": 400, "Transpose": 40, "Pow": 100, "Cast": 6, "Softplus": 200}
_SLOW = (
    "Elu Erf Exp Gelu HardSigmoid HardSwish LayerNormalization Log ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum "
    "ReduceSumSquare Sigmoid Softmax Sqrt Tanh"
)
_SLOW_VALUE = 40
_COPIED = 8  # of a value that a convolution lays out before it multiplies
_MATRIX = 1_000  # of each of many small matrices, or groups of channels
_OTHER_TYPE = 16  # times as much for numbers of other types
_FAST_TYPES = {TensorProto.FLOAT, TensorProto.UINT8, TensorProto.BOOL}
_SPATIAL_MAX = 3  # convolutions over more dimensions lay everything out at once
_POOLS = {"MaxPool", "AveragePool"}
_POOLED = 32  # of a value under a window
_BYTES: Mapping[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.UINT8: 1,
    TensorProto.INT8: 1,
    TensorProto.UINT16: 2,
    TensorProto.INT16: 2,
    TensorProto.INT32: 4,
    TensorProto.INT64: 8,
    TensorProto.BOOL: 1,
    TensorProto.FLOAT16: 2,
    TensorProto.DOUBLE: 8,
    TensorProto.BFLOAT16: 2,
    TensorProto.UINT32: 4,
    TensorProto.UINT64: 8,
}


class Cost(NamedTuple):
    """What a graph computes for one sample.

    Attributes:
        total: multiply-adds of all steps.
        heaviest: those of the heaviest step.
        held_bytes: bytes of all values together, in whatever order they are computed and dropped.
        packed: numbers of weights that its steps take, each counted once for every step: a session lays them out anew
            for each. Not for a sample, but for all.
    """

    total: int
    heaviest: int
    held_bytes: int
    packed: int


def cost_of(nodes: Sequence[NodeProto], values: Mapping[str, ValueInfoProto], weights: Mapping[str, Shape]) -> Cost:
    """Return what ``nodes`` cost for one sample.

    Args:
        nodes: the steps.
        values: each value that depends on the samples, its first dimension that of samples, the others known.
        weights: the shapes of the constants.

    Raises:
        ValueError: the cost of a step cannot be bounded; the message names it.
    """
    shapes = {name: _sizes(value) for name, value in values.items()}
    types = {name: value.type.tensor_type.elem_type for name, value in values.items()}
    for name, kind in types.items():
        if kind not in _BYTES:
            raise ValueError(f"{name!r} is of {TensorProto.DataType.Name(kind).lower()}, not a plain number")
    costs = [_step(node, shapes, weights) * _slowness(node, types) for node in nodes]
    held = sum(math.prod(shapes[name]) * _BYTES[types[name]] for name in shapes)
    packed = sum(math.prod(weights[name]) for node in nodes for name in node.input if name in weights)
    return Cost(sum(costs), max(costs, default=0), held, packed)


def _sizes(value: ValueInfoProto) -> list[int]:
    return [1, *(size.dim_value for size in value.type.tensor_type.shape.dim[1:])]


def _slowness(node: NodeProto, types: Mapping[str, int]) -> int:
    names = (*node.input, *node.output) if node.op_type == "Cast" else node.input
    fast = all(types.get(name, TensorProto.FLOAT) in _FAST_TYPES for name in names)
    return 1 if fast else _OTHER_TYPE


def _step(node: NodeProto, values: Mapping[str, Shape], weights: Mapping[str, Shape]) -> int:
    takes = [values[name] if name in values else weights.get(name, ()) for name in node.input if name]
    gives = [values[name] for name in node.output if name]
    given = sum(map(math.prod, gives))
    if node.op_type in {"MatMul", "Gemm"}:
        return _product(node, takes, gives[0])
    if node.op_type == "Conv":
        return _convolution(node, takes, given)
    if node.op_type in _POOLS:
        return _POOLED * (given * _product_of_attribute(node, "kernel_shape") + math.prod(takes[0]))
    each = _VALUE_OF.get(node.op_type, _SLOW_VALUE if node.op_type in _SLOW.split() else _VALUE)
    if node.op_type == "Concat":
        return each * (sum(map(math.prod, takes)) + given)
    return each * (sum(max(math.prod(shape), given) for shape in takes) + given)


def _product(node: NodeProto, takes: Sequence[Shape], gives: Shape) -> int:
    matrices = math.prod(gives[1:-2])
    return math.prod(gives) * (_contracted(node, takes) + _VALUE) + _VALUE * math.prod(takes[0]) + _MATRIX * matrices


def _contracted(node: NodeProto, takes: Sequence[Shape]) -> int:
    """Return over how many values a product of matrices sums, the larger one where its two sides differ."""
    flags = {each.name: each.i for each in node.attribute}
    if len(takes) < 2 or not takes[0] or not takes[1]:
        raise ValueError(f"the shapes that {node.op_type} {node.name!r} takes are not known")
    left, right = takes[0], takes[1]
    of_left = left[0] if flags.get("transA") else left[-1]
    of_right = right[-1] if flags.get("transB") else right[max(0, len(right) - 2)]
    return max(of_left, of_right)


def _convolution(node: NodeProto, takes: Sequence[Shape], given: int) -> int:
    kernel = takes[1] if len(takes) > 1 else ()
    if not 3 <= len(kernel) <= _SPATIAL_MAX + 2:
        raise ValueError(f"Conv {node.name!r} has a kernel of {len(kernel)} dimensions: at most {_SPATIAL_MAX + 2} may")
    groups = max(1, next((each.i for each in node.attribute if each.name == "group"), 1))
    summed, places = math.prod(kernel[1:]), -(-given // max(1, kernel[0]))
    return given * (summed + _VALUE) + groups * (_COPIED * summed * places + _MATRIX) + _VALUE * math.prod(takes[0])


def _product_of_attribute(node: NodeProto, name: str) -> int:
    sizes = next((each.ints for each in node.attribute if each.name == name), ())
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{node.op_type} {node.name!r} names no {name}")
    return math.prod(sizes)
