"""Draw ONNX graphs by a grammar: valid ones, of shapes, types and operators that a hostile author would try.

A graph is a chain and a web of steps over values whose shapes are tracked as they are drawn, so that most are valid
ONNX, however large what they compute is. Some steps are of operators that no model may use, and some values are of
sizes that depend on data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

_WEIGHT_VALUES_MAX = 1_500_000
_STEPS_MAX = 12
_TYPES = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT32)
_UNARY = ("Relu", "Erf", "Exp", "Tanh", "Sigmoid", "Softplus", "Gelu", "Abs", "Neg", "Sqrt", "Identity", "LeakyRelu")
_FOREIGN = ("Loop", "Scan", "If", "Resize", "Tile", "Expand", "Range", "ConstantOfShape", "OneHot", "NonZero", "Shape")
_SIZES = st.sampled_from([1, 2, 3, 7, 16, 64, 257, 1_000])


@dataclass
class Draft:
    """A graph under way: the shape of each value for one sample, its steps, and its weights."""

    shapes: dict[str, tuple[int, ...]]
    nodes: list[NodeProto] = field(default_factory=list)
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(self, operator: str, takes: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, takes, [name], **attributes))
        self.shapes[name] = shape
        return name

    def weight(self, values: NDArray[Any]) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = values
        return name


def _ones(draft: Draft, *shape: int) -> str | None:
    """Return a weight of ones, or None if it would be too large for a test."""
    return draft.weight(np.full(shape, 0.5, np.float32)) if math.prod(shape) <= _WEIGHT_VALUES_MAX else None


def _unary(draw: st.DrawFn, draft: Draft, name: str) -> None:
    draft.add(draw(st.sampled_from(_UNARY)), [name], draft.shapes[name])


def _cast(draw: st.DrawFn, draft: Draft, name: str) -> None:
    there = draft.add("Cast", [name], draft.shapes[name], to=draw(st.sampled_from(_TYPES)))
    draft.add("Cast", [there], draft.shapes[name], to=TensorProto.FLOAT)


def _through_text(draw: st.DrawFn, draft: Draft, name: str) -> None:
    there = draft.add("Cast", [name], draft.shapes[name], to=TensorProto.STRING)
    draft.add("Cast", [there], draft.shapes[name], to=TensorProto.FLOAT)


def _flat(draw: st.DrawFn, draft: Draft, name: str) -> None:
    draft.add("Flatten", [name], (math.prod(draft.shapes[name]),))


def _reshape(draw: st.DrawFn, draft: Draft, name: str) -> None:
    left, shape = math.prod(draft.shapes[name]), list[int]()
    for _ in range(draw(st.integers(0, 3))):
        divisor = draw(st.sampled_from([size for size in (1, 2, 3, 4, 8, 16, 32) if left % size == 0]))
        shape.append(divisor)
        left //= divisor
    draft.add("Reshape", [name, draft.weight(np.array([0, *shape, left]))], (*shape, left))


def _widen(draw: st.DrawFn, draft: Draft, name: str) -> None:
    shape, size = draft.shapes[name], draw(_SIZES)
    if weight := _ones(draft, shape[-1], size):
        draft.add("MatMul", [name, weight], (*shape[:-1], size))


def _square(draw: st.DrawFn, draft: Draft, name: str) -> None:
    _by_itself(draft, name)


def _by_itself(draft: Draft, name: str) -> None:
    shape = draft.shapes[name]
    if len(shape) >= 2:
        turned = draft.add(
            "Transpose",
            [name],
            (*shape[:-2], shape[-1], shape[-2]),
            perm=[*range(len(shape) - 1), len(shape), len(shape) - 1],
        )
        draft.add("MatMul", [name, turned], (*shape[:-1], shape[-2]))


def _broadcast(draw: st.DrawFn, draft: Draft, name: str) -> None:
    """Multiply ``[..., 1, m]`` by ``[k, 1]``, which makes k times as many values."""
    shape, times = draft.shapes[name], draw(_SIZES)
    tall = draft.add("Unsqueeze", [name, draft.weight(np.array([len(shape)]))], (*shape[:-1], 1, shape[-1]))
    if weight := _ones(draft, times, 1):
        draft.add("Mul", [tall, weight], (*shape[:-1], times, shape[-1]))


def _repeat(draw: st.DrawFn, draft: Draft, name: str) -> None:
    times, shape = draw(st.sampled_from([2, 9, 100, 3_000])), draft.shapes[name]
    if draw(st.booleans()):
        draft.add("Sum", [name] * times, shape)
    else:
        draft.add("Concat", [name] * times, (*shape[:-1], shape[-1] * times), axis=-1)


def _convolve(draw: st.DrawFn, draft: Draft, name: str) -> None:
    shape, kernel = draft.shapes[name], draw(st.sampled_from([1, 2, 5, 31, 99, 447]))
    spatial, gives = len(shape) - 1, draw(st.sampled_from([1, 8, 64]))
    if spatial < 1 or not (weight := _ones(draft, gives, shape[0], *[kernel] * spatial)):
        return
    padding = [kernel] * spatial  # on each side: what it gives is larger than what it takes
    sizes = tuple(size + kernel + 1 for size in shape[1:])
    draft.add("Conv", [name, weight], (gives, *sizes), pads=padding * 2)


def _pool(draw: st.DrawFn, draft: Draft, name: str) -> None:
    shape, kernel = draft.shapes[name], draw(st.sampled_from([1, 3, 50, 2_001]))
    if len(shape) == 3:
        half = kernel // 2
        sizes = tuple(size + 2 * half - kernel + 1 for size in shape[1:])
        if min(sizes) > 0:
            operator = draw(st.sampled_from(["MaxPool", "AveragePool"]))
            draft.add(operator, [name], (shape[0], *sizes), kernel_shape=[kernel] * 2, pads=[half] * 4)


def _first(draw: st.DrawFn, draft: Draft, name: str) -> None:
    shape = draft.shapes[name]
    count = draw(st.integers(1, shape[-1]))
    values = draft.add("TopK", [name, draft.weight(np.array([count]))], (*shape[:-1], count))
    draft.nodes[-1].output.append(f"{values}_places")


def _foreign(draw: st.DrawFn, draft: Draft, name: str) -> None:
    draft.add(draw(st.sampled_from(_FOREIGN)), [name], draft.shapes[name])


def _by_data(draw: st.DrawFn, draft: Draft, name: str) -> None:
    """Reshape to a shape that is computed from the samples."""
    sizes = draft.add("Cast", [name], draft.shapes[name], to=TensorProto.INT64)
    draft.add("Reshape", [name, sizes], draft.shapes[name])


_PRODUCTIONS = (
    *[_unary, _reshape, _widen, _square, _broadcast, _repeat, _convolve, _pool, _first, _cast] * 3,
    *[_flat, _foreign, _by_data, _through_text],
)


@dataclass(frozen=True, repr=False)
class HostileGraph:
    """A serialised model, and the names of its steps."""

    data: bytes
    steps: str

    def __repr__(self) -> str:
        return f"<graph of {self.steps}>"


@st.composite
def hostile_graphs(draw: st.DrawFn) -> HostileGraph:
    """Draw a model from float32 or uint8 ``[n, values]`` to float32 ``[n, answers]``, most of them valid."""
    takes = draw(st.sampled_from([1, 12, 256, 2_048, 16_384]))
    kind = draw(st.sampled_from([TensorProto.FLOAT, TensorProto.UINT8]))
    draft = Draft({"samples": (takes,)})
    draft.add("Cast", ["samples"], (takes,), to=TensorProto.FLOAT)
    for _ in range(draw(st.integers(0, _STEPS_MAX))):
        names = list(draft.shapes)[1:]
        name = names[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(names))
        draw(st.sampled_from(_PRODUCTIONS))(draw, draft, name)
    last = list(draft.shapes)[-1]
    end = draft.add("Flatten", [last], (math.prod(draft.shapes[last]),))
    data = _model(draft, kind, takes, end).SerializeToString()
    return HostileGraph(data, " ".join(node.op_type for node in draft.nodes))


def costly_graph() -> HostileGraph:
    """Return a small model that multiplies ``[16_384, 1]`` by ``[1, 16_384]`` for each sample."""
    takes = 16_384
    draft = Draft({"samples": (takes,)})
    draft.add("Unsqueeze", ["samples", draft.weight(np.array([2]))], (takes, 1))
    _by_itself(draft, "v0")
    end = draft.add("Flatten", ["v2"], (takes * takes,))
    return HostileGraph(_model(draft, TensorProto.FLOAT, takes, end).SerializeToString(), "a square")


def _model(draft: Draft, kind: int, takes: int, end: str) -> Any:
    graph = helper.make_graph(
        draft.nodes,
        "hostile",
        [helper.make_tensor_value_info("samples", kind, ["n", takes])],
        [_value(end, min(draft.shapes[end][0], 2**62))],
        [numpy_helper.from_array(values, name) for name, values in draft.weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 9
    return model


def _value(name: str, size: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
