"""Bounds on the dimensions of values, before shapes are computed: nobody needs many, and each costs memory and time."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from scorer_svc.models.ranks import RANK_MAX
from scorer_svc.models.validation import validated
from tests.onnx_graphs import graph_of

_LARGE = 2**62
_SECONDS_MAX = 2.0  # without bounds, each of these takes minutes, or gigabytes


def declared(change: Callable[[ModelProto], None]) -> bytes:
    model = onnx.load_model_from_string(graph_of([helper.make_node("Relu", ["samples"], ["features"])], 4))
    change(model)
    return bytes(model.SerializeToString())


def weight_of_many_dimensions(model: ModelProto) -> None:
    model.graph.initializer.add(name="weight", data_type=TensorProto.FLOAT, dims=[_LARGE] * 40_000, raw_data=bytes(4))


def value_of_many_dimensions(model: ModelProto) -> None:
    sizes: list[str | int | None] = ["n", *[_LARGE] * 40_000]
    model.graph.value_info.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, sizes))


def output_of_many_dimensions(model: ModelProto) -> None:
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", *[1] * 40_000]))


DECLARED = [
    weight_of_many_dimensions,
    value_of_many_dimensions,
    output_of_many_dimensions,
]


@pytest.mark.parametrize("change", DECLARED)
def test_a_declared_shape_of_many_dimensions_is_refused_at_once(change: Callable[[ModelProto], None]) -> None:
    data, began = declared(change), time.monotonic()
    with pytest.raises(ValueError, match="dimensions"):
        validated(data)
    assert time.monotonic() - began < _SECONDS_MAX


def unsqueezed(steps: int, axes: int) -> bytes:
    """Return a graph of ``steps`` steps that add ``axes`` dimensions each."""
    names = ["samples", *(f"value{step}" for step in range(steps))]
    nodes = [helper.make_node("Unsqueeze", [names[step], "axes"], [names[step + 1]]) for step in range(steps)]
    nodes.append(helper.make_node("Flatten", [names[-1]], ["features"]))
    return bytes(with_weight(nodes, numpy_helper.from_array(np.arange(2, 2 + axes), "axes")).SerializeToString())


def with_weight(nodes: list[onnx.NodeProto], weight: TensorProto) -> ModelProto:
    takes, gives = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("samples", "features")
    )
    graph = helper.make_graph(nodes, "many", [takes], [gives], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 9
    return model


@pytest.mark.parametrize(("steps", "axes"), [(1_900, 120), (1_900, 1), (1, RANK_MAX - 1)])
def test_steps_that_add_dimensions_are_refused_before_shapes_are_computed(steps: int, axes: int) -> None:
    data, began = unsqueezed(steps, axes), time.monotonic()
    with pytest.raises(ValueError, match="dimensions"):
        validated(data)
    assert time.monotonic() - began < _SECONDS_MAX


def test_a_reshape_to_more_dimensions_than_may_be_is_refused_before_shapes_are_computed() -> None:
    nodes = [helper.make_node("Reshape", ["samples", "shape"], [f"value{step}"]) for step in range(1_900)]
    nodes.append(helper.make_node("Flatten", ["value0"], ["features"]))
    data = with_weight(nodes, numpy_helper.from_array(np.ones(100_000, np.int64), "shape")).SerializeToString()
    began = time.monotonic()
    with pytest.raises(ValueError, match="dimensions"):
        validated(data)
    assert time.monotonic() - began < _SECONDS_MAX


def test_a_graph_with_as_many_dimensions_as_may_be_is_accepted() -> None:
    found = validated(unsqueezed(1, RANK_MAX - 2))
    assert len(found.model.graph.value_info[0].type.tensor_type.shape.dim) == RANK_MAX
