"""Validate models from the artifact store before ONNX Runtime loads them. Pure functions.

Someone who can write to the store must not be able to run code here, read files, or exhaust the memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import onnx
from google.protobuf.message import DecodeError
from labelloop.artifacts.onnx_bytes import lean
from onnx import ModelProto, TensorProto, ValueInfoProto

from scorer_svc.models.cost import Cost, cost_of
from scorer_svc.models.limits import MULTIPLY_ADDS_MAX
from scorer_svc.models.ranks import check_ranks
from scorer_svc.models.string_steps import takes_strings, without_strings


class Limits(NamedTuple):
    """Upper limits of a graph, beside those of its size in steps and bytes.

    Attributes:
        size: bytes.
        nodes: steps.
        values: values computed for one sample in all.
        spare: multiply-adds for one sample that it may take beside what the operator allows.
    """

    size: int
    nodes: int
    values: int
    spare: int


class Vetted(NamedTuple):
    """A model that has passed the checks.

    Attributes:
        model: its steps and the shapes of all values that it computes; weights are further inputs behind that of the
            samples, without their numbers.
        cost: what it computes for one sample.
    """

    model: ModelProto
    cost: Cost


class TooCostly(ValueError):
    """A graph takes more time for one sample than the operator allows."""


_HEAD = 50_000_000  # of a softmax of four million weights
MODEL = Limits(64 * 1024 * 1024, 2_000, 100_000_000, _HEAD)  # a model is sent in one gRPC message
FEATURES = Limits(48 * 1024 * 1024, 1_998, 98_000_000, 0)  # leaves room for a softmax after it
_PACKED_MAX = 64_000_000  # numbers of weights of all steps: 256 MB
_STEP_SHARE = 2  # no step may take more than half of that: a run can be ended between steps only
_OPSET_MIN = 13  # Softmax, Squeeze and ReduceSum meant something else before, and a model is one graph of one opset
_VALUES_MAX = 4_000_000  # of one step, for one sample: 16 MB
# Operators that can treat each sample by itself, along dimensions other than the first.
_OPERATOR_NAMES = (
    "Abs Add AveragePool BatchNormalization Cast Clip Concat Conv Div Elu Equal Erf Exp Flatten Gelu Gemm "
    "GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity IsNaN LayerNormalization LeakyRelu Log MatMul Max "
    "MaxPool Min Mul Neg Pow ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare Relu Reshape Sigmoid "
    "Softmax Softplus Sqrt Squeeze Sub Sum Tanh TopK Transpose Unsqueeze Where"
)
_OPERATORS = frozenset(_OPERATOR_NAMES.split())
_INPUTS: set[int] = {TensorProto.UINT8, TensorProto.FLOAT}
_WEIGHT_BYTES: dict[int, int] = {TensorProto.FLOAT: 4, TensorProto.INT64: 8, TensorProto.INT32: 4, TensorProto.UINT8: 1}


def validated(data: bytes, limits: Limits = MODEL, multiply_adds_max: int = MULTIPLY_ADDS_MAX) -> Vetted:
    """Check a model, and return it with the shapes of all values that it computes and with its cost.

    It must map samples ``[n, features]`` of uint8 or float32, or texts ``[n]`` or ``[n, 1]``, to float32
    ``[n, classes]``, or to features instead. Of the steps that see strings, none is in what is returned.

    Raises:
        TooCostly: it takes more than ``multiply_adds_max`` for one sample.
        ValueError: ``data`` is not a model, is too large, or does anything else; the message says what is wrong.
    """
    if len(data) > limits.size:
        raise ValueError(f"it has {len(data):,} bytes, more than {limits.size:,}")
    bare = lean(data)
    try:
        model = onnx.load_model_from_string(bare.data)
    except DecodeError as error:
        raise ValueError(f"it is no ONNX: {error}") from error
    texts = list(model.graph.input) if takes_strings(model.graph) else []
    counts = list[ValueInfoProto]()
    if texts:
        model = without_strings(model)
        counts.extend(model.graph.input)
    check_ranks(model.graph)
    for fault in _faults(model, limits.nodes, counts, bare.weight_bytes):
        raise ValueError(fault)
    weights = {each.name: list(each.dims) for each in model.graph.initializer}
    _take_for_inputs(model.graph)
    try:
        onnx.checker.check_model(model, full_check=True)  # also checks declared shapes against computed ones
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(str(error)) from error
    known = _known_values(inferred.graph, counts, limits)
    cost = cost_of(inferred.graph.node, known, weights)
    _check_cost(cost, multiply_adds_max + limits.spare)
    return Vetted(_with_texts(inferred, texts, counts) if texts else inferred, cost)


def _take_for_inputs(graph: onnx.GraphProto) -> None:
    """Declare weights without their numbers as inputs: what is computed has the same shapes."""
    bare = [each for each in graph.initializer if not each.raw_data and 0 not in each.dims]
    kept = [each for each in graph.initializer if each.raw_data or 0 in each.dims]
    graph.input.extend(onnx.helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in bare)
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _known_values(graph: onnx.GraphProto, counts: list[ValueInfoProto], limits: Limits) -> Mapping[str, ValueInfoProto]:
    """Return each value that depends on the samples. ValueError if any is too large or of unknown size."""
    samples = counts or graph.input[:1]
    batch = samples[0].type.tensor_type.shape.dim[0].dim_param
    known = {value.name: value for value in (*graph.value_info, *graph.output, *samples)}
    computed = [*(value.name for value in counts), *(name for node in graph.node for name in node.output if name)]
    for name in computed:
        if name not in known or not _keeps_samples(known[name], batch):
            raise ValueError(
                f"{name!r} does not hold at most {_VALUES_MAX:,} values of each sample, the samples in its first "
                "dimension (to reshape, take 0 for that)"
            )
    if (values := sum(values_each(known[name]) for name in computed)) > limits.values:
        raise ValueError(f"it computes {values:,} values of each sample in all, more than {limits.values:,}")
    return {name: known[name] for name in (*(value.name for value in samples), *computed)}


def _check_cost(cost: Cost, most: int) -> None:
    if cost.packed > _PACKED_MAX:
        raise TooCostly(
            f"its steps take {cost.packed:,} numbers of weights, those of several steps counted for each, more than "
            f"{_PACKED_MAX:,}: take a smaller network"
        )
    step_most = most // _STEP_SHARE
    if cost.total > most or cost.heaviest > step_most:
        raise TooCostly(
            f"it takes {cost.total:,} multiply-adds for one sample, of which {cost.heaviest:,} in one step, more than "
            f"{most:,} or {step_most:,}: take a smaller network or smaller pictures, or have the operator raise "
            "LABELLOOP_GRAPH_MULTIPLY_ADDS"
        )


def _with_texts(inferred: ModelProto, texts: list[ValueInfoProto], counts: list[ValueInfoProto]) -> ModelProto:
    """Put the input of texts back in place of what is counted in them."""
    weights = inferred.graph.input[len(counts) :]
    inferred.graph.value_info.extend(counts)
    del inferred.graph.input[:]
    inferred.graph.input.extend([*texts, *weights])
    return inferred


def values_each(value: ValueInfoProto) -> int:
    """Count the values of one sample."""
    return math.prod(size.dim_value for size in value.type.tensor_type.shape.dim[1:])


def _keeps_samples(value: ValueInfoProto, batch: str) -> bool:
    """Check that the first dimension is that of samples, and that the others are known and small enough."""
    first, *others = value.type.tensor_type.shape.dim or [onnx.TensorShapeProto.Dimension()]
    known = all(size.dim_value for size in others)
    return first.dim_param == batch != "" and known and values_each(value) <= _VALUES_MAX


def _faults(model: ModelProto, nodes_max: int, counts: list[ValueInfoProto], weight_bytes: list[int]) -> Iterator[str]:
    graph = model.graph
    if any(opset.domain for opset in model.opset_import) or any(node.domain for node in graph.node):
        yield "it uses operators of others than ONNX itself"
    if foreign := sorted({node.op_type for node in graph.node} - _OPERATORS):
        yield f"it uses the operators {', '.join(foreign)}; known are {', '.join(sorted(_OPERATORS))}"
    if (opset := max((each.version for each in model.opset_import), default=1)) < _OPSET_MIN:
        yield f"it is of opset {opset}: export it with opset {_OPSET_MIN} or later, or take onnx.version_converter"
    if len(graph.node) > nodes_max:
        yield f"it has {len(graph.node):,} nodes, more than {nodes_max:,}"
    if any(_holds_more_than_numbers(node) for node in graph.node):
        yield "a node has an attribute that is no number or name"
    yield from filter(None, (_weight_fault(*each) for each in zip(graph.initializer, weight_bytes, strict=True)))
    fits = bool(counts) or _is_one_matrix(list(graph.input), _INPUTS)
    if not fits or not _is_one_matrix(list(graph.output), {TensorProto.FLOAT}):
        takes, gives = (", ".join(map(_described, values)) or "nothing" for values in (graph.input, graph.output))
        yield (
            f"it takes {takes} and gives {gives}, but must take [n, values] of uint8 or float32, each sample flat as "
            "the pool holds it, or strings [n] or [n, 1], and give [n, columns] of float32, for any n: export it with "
            "a free first dimension, behind a Reshape of its input to [0, height, width, channels] and, where it needs "
            "channels first, a Transpose, and with a Flatten at its end"
        )


def _holds_more_than_numbers(node: onnx.NodeProto) -> bool:
    plain = {
        onnx.AttributeProto.INT,
        onnx.AttributeProto.FLOAT,
        onnx.AttributeProto.INTS,
        onnx.AttributeProto.STRING,  # how to round or to pad
    }
    return any(attribute.type not in plain for attribute in node.attribute)


def _weight_fault(tensor: TensorProto, raw_bytes: int) -> str:
    if tensor.data_location != TensorProto.DEFAULT:
        return f"weight {tensor.name!r} lies in another file"
    size = _WEIGHT_BYTES.get(tensor.data_type)
    if size is None or min(tensor.dims, default=0) < 0 or raw_bytes != size * math.prod(tensor.dims):
        return f"weight {tensor.name!r} does not hold what its shape says"
    return ""


def _described(value: ValueInfoProto) -> str:
    """Format the name, type and shape of a value."""
    tensor = value.type.tensor_type
    sizes = [str(size.dim_value) if size.HasField("dim_value") else size.dim_param or "?" for size in tensor.shape.dim]
    return f"{value.name!r} {TensorProto.DataType.Name(tensor.elem_type).lower()} [{', '.join(sizes)}]"


def _is_one_matrix(values: list[ValueInfoProto], types: set[int]) -> bool:
    return len(values) == 1 and _is_matrix(values[0]) and values[0].type.tensor_type.elem_type in types


def _is_matrix(value: ValueInfoProto) -> bool:
    """Check that the shape is ``[n, size]``: any number of rows, and a fixed number of columns."""
    sizes = value.type.tensor_type.shape.dim  # empty if it is not a tensor
    known = [size.WhichOneof("value") == "dim_value" for size in sizes]
    return known == [False, True] and sizes[1].dim_value > 0
