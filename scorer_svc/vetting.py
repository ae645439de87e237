"""Models from the store, looked over before ONNX Runtime sees them: whoever can write there must not run code of theirs
here, read files, or take the memory. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, ValueInfoProto

BYTES_MAX = 64 * 1024 * 1024
_NODES_MAX = 100
_VALUES_MAX = 4_000_000  # of what is computed from a sample on the way: 16 MB
_VALUES_IN_ALL_MAX = 100_000_000
# What works on each sample by itself, along the other dimensions than the first.
_OPERATOR_NAMES = (
    "Abs Add AveragePool BatchNormalization Cast Clip Concat Conv Div Elu Erf Exp Flatten Gelu Gemm GlobalAveragePool "
    "GlobalMaxPool HardSigmoid HardSwish Identity LayerNormalization LeakyRelu Log MatMul Max MaxPool Min Mul Neg Pow "
    "ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare Relu Reshape Sigmoid Softmax Softplus Sqrt "
    "Squeeze Sub Sum Tanh Transpose Unsqueeze"
)
_OPERATORS = frozenset(_OPERATOR_NAMES.split())
_INPUTS: set[int] = {TensorProto.UINT8, TensorProto.FLOAT}
_WEIGHT_BYTES: dict[int, int] = {TensorProto.FLOAT: 4, TensorProto.INT64: 8, TensorProto.INT32: 4, TensorProto.UINT8: 1}


def vetted(data: bytes) -> ModelProto:
    """The model that ``data`` holds, with the shapes of all that it computes: samples ``[n, features]`` of uint8 or
    float32 to float32 ``[n, classes]``, or features in their place.
    ValueError, which says what is wrong, for what is none, is too large, or does anything else."""
    if len(data) > BYTES_MAX:
        raise ValueError(f"it has {len(data)} bytes, more than {BYTES_MAX}")
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ValueError(f"it is no ONNX: {error}") from error
    for fault in _faults(model):
        raise ValueError(fault)
    try:
        onnx.checker.check_model(model, full_check=True)  # the shapes that it declares are those that come out
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(str(error)) from error
    batch = inferred.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    known = {value.name: value for value in (*inferred.graph.value_info, *inferred.graph.output)}
    computed = [name for node in inferred.graph.node for name in node.output if name]
    for name in computed:
        if name not in known or not _keeps_samples(known[name], batch):
            raise ValueError(
                f"{name!r} does not hold at most {_VALUES_MAX:,} values of each sample, the samples in its first "
                "dimension (to reshape, take 0 for that)"
            )
    if (values := sum(values_each(known[name]) for name in computed)) > _VALUES_IN_ALL_MAX:
        raise ValueError(f"it computes {values:,} values of each sample in all, more than {_VALUES_IN_ALL_MAX:,}")
    return inferred


def values_each(value: ValueInfoProto) -> int:
    """Of one sample."""
    return math.prod(size.dim_value for size in value.type.tensor_type.shape.dim[1:])


def _keeps_samples(value: ValueInfoProto, batch: str) -> bool:
    """Whether the first dimension is the samples', and the others are known and small enough."""
    first, *others = value.type.tensor_type.shape.dim or [onnx.TensorShapeProto.Dimension()]
    known = all(size.dim_value for size in others)
    return first.dim_param == batch != "" and known and values_each(value) <= _VALUES_MAX


def _faults(model: ModelProto) -> Iterator[str]:
    graph = model.graph
    if model.functions or model.training_info or graph.sparse_initializer or graph.quantization_annotation:
        yield "it holds more than a plain graph"
    if any(opset.domain for opset in model.opset_import) or any(node.domain for node in graph.node):
        yield "it uses operators of others than ONNX itself"
    if foreign := sorted({node.op_type for node in graph.node} - _OPERATORS):
        yield f"it uses the operators {', '.join(foreign)}; known are {', '.join(sorted(_OPERATORS))}"
    if len(graph.node) > _NODES_MAX:
        yield f"it has {len(graph.node)} nodes, more than {_NODES_MAX}"
    if any(_holds_more_than_numbers(node) for node in graph.node):
        yield "a node holds a tensor or a graph of its own"
    yield from filter(None, map(_weight_fault, graph.initializer))
    if not _is_one_matrix(list(graph.input), _INPUTS) or not _is_one_matrix(list(graph.output), {TensorProto.FLOAT}):
        yield "it does not lead from samples [n, values] to probabilities or features [n, columns]"


def _holds_more_than_numbers(node: onnx.NodeProto) -> bool:
    plain = {
        onnx.AttributeProto.INT,
        onnx.AttributeProto.FLOAT,
        onnx.AttributeProto.INTS,
        onnx.AttributeProto.STRING,  # how to round or to pad
    }
    return any(attribute.type not in plain for attribute in node.attribute)


def _weight_fault(tensor: TensorProto) -> str:
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        return f"weight {tensor.name!r} lies in another file"
    size = _WEIGHT_BYTES.get(tensor.data_type)
    if size is None or len(tensor.raw_data) != size * math.prod(tensor.dims):
        return f"weight {tensor.name!r} does not hold what its shape says"
    return ""


def _is_one_matrix(values: list[ValueInfoProto], types: set[int]) -> bool:
    return len(values) == 1 and _is_matrix(values[0]) and values[0].type.tensor_type.elem_type in types


def _is_matrix(value: ValueInfoProto) -> bool:
    """Whether it is ``[n, size]``: any number of rows, as many columns as it says."""
    sizes = value.type.tensor_type.shape.dim  # none where it is no tensor
    known = [size.WhichOneof("value") == "dim_value" for size in sizes]
    return known == [False, True] and sizes[1].dim_value > 0
