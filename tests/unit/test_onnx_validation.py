"""Validation of ONNX artifacts as models and as feature graphs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from labelloop.errors import InvalidInput
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from scorer_svc.models.graph import Graph
from scorer_svc.models.model import Model
from scorer_svc.models.validation import FEATURES, MODEL, validated
from trainer_svc.model.onnx_export import joined, to_onnx

WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4)  # three classes, three features
GEMM = "Gemm", ["features", "kernel", "bias"], ["logits"]


def ours() -> ModelProto:
    return onnx.load_model_from_string(to_onnx(WEIGHTS, "uint8"))


def weight(values: NDArray[np.generic], name: str = "more") -> TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_model_exported_by_the_trainer_is_accepted(dtype: str) -> None:
    validated(to_onnx(WEIGHTS, dtype))


def test_a_network_of_two_layers_is_accepted() -> None:
    nodes = [
        helper.make_node("MatMul", ["samples", "first"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["positive"]),
        helper.make_node("Gemm", ["positive", "second", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    shapes = {"first": (3, 5), "second": (5, 2), "bias": (2,)}
    graph = helper.make_graph(
        nodes,
        "two_layers",
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [weight(np.ones(shape, np.float32), name) for name, shape in shapes.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    found = Model(model.SerializeToString(), "m")
    assert found.probabilities(np.ones((4, 3), np.float32)).tolist() == [[0.5, 0.5]] * 4


def elsewhere(model: ModelProto) -> None:
    kernel = model.graph.initializer[0]
    kernel.ClearField("raw_data")
    kernel.data_location = TensorProto.EXTERNAL
    kernel.external_data.add(key="location", value="/etc/passwd")


def with_location_only(model: ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="weights")


def of_another_domain(model: ModelProto) -> None:
    model.opset_import.add(domain="com.example", version=1)
    model.graph.node[1].domain = "com.example"


def with_a_loop(model: ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("If", ["c"], ["d"], then_branch=model.graph, else_branch=model.graph))


def with_a_large_constant(model: ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["zeros"]))


def with_a_tensor_in_a_node(model: ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("value", weight(np.ones(3, np.float32))))


def with_a_function(model: ModelProto) -> None:
    model.functions.add(name="f", domain="")


def with_less_weight_than_it_says(model: ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 1_000_000_000


def with_other_classes_than_it_says(model: ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7


def with_other_features_than_it_says(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 7


def with_a_fixed_number_of_rows(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def with_a_second_input(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["n", 3]))


def with_text_for_an_answer(model: ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING


def that_blows_up(model: ModelProto) -> None:
    """Turn each sample into a row of more than four million values."""
    _widen(model, 1_000_001)
    model.graph.node[1].output[0] = "million"
    model.graph.node.insert(2, helper.make_node("Concat", ["million"] * 4, ["logits"], axis=1))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4_000_004


def _widen(model: ModelProto, width: int) -> None:
    kernel, bias = np.ones((3, width), np.float32), np.ones(width, np.float32)
    model.graph.initializer[0].CopyFrom(weight(kernel, "kernel"))
    model.graph.initializer[1].CopyFrom(weight(bias, "bias"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = width


def that_holds_much_at_once(model: ModelProto) -> None:
    """Hold rows of two million values, fifty times."""
    _widen(model, 2_000_000)
    model.graph.node.extend([helper.make_node("Relu", ["logits"], [f"r{i}"]) for i in range(50)])


def with_many_nodes(model: ModelProto) -> None:
    model.graph.node.extend([helper.make_node("Relu", ["logits"], [f"r{i}"]) for i in range(MODEL.nodes)])


def of_an_old_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 12


@pytest.mark.parametrize(
    "change",
    [
        elsewhere,
        with_location_only,
        of_another_domain,
        with_a_loop,
        with_a_large_constant,
        with_a_tensor_in_a_node,
        with_a_function,
        with_less_weight_than_it_says,
        with_other_classes_than_it_says,
        with_other_features_than_it_says,
        with_a_fixed_number_of_rows,
        with_a_second_input,
        with_text_for_an_answer,
        that_blows_up,
        that_holds_much_at_once,
        with_many_nodes,
        of_an_old_opset,
    ],
)
def test_invalid_models_are_refused_before_onnx_runtime_loads_them(
    change: Callable[[ModelProto], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ours()
    change(model)
    monkeypatch.setattr("scorer_svc.models.graph.open_session", lambda graph: pytest.fail("ONNX Runtime saw it"))
    with pytest.raises(InvalidInput, match="cannot serve as a model"):
        Model(model.SerializeToString(), "m")


def chain(nodes: int, width: int = 3, opset: int = 13) -> bytes:
    """Return a feature graph of ``nodes`` nodes: a product with a square matrix, then a chain of Relu."""
    names = [f"r{number}" for number in range(nodes)]
    first = helper.make_node("MatMul", ["samples", "kernel"], names[:1])
    others = [helper.make_node("Relu", [name], [following]) for name, following in pairwise(names)]
    graph = helper.make_graph(
        [first, *others],
        "chain",
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, ["n", width])],
        [weight(np.eye(width, dtype=np.float32), "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(("nodes", "width"), [(FEATURES.nodes, 3), (2, 3_500)], ids=["nodes", "size"])
def test_a_feature_graph_of_the_maximum_size_can_be_part_of_a_model(nodes: int, width: int) -> None:
    """The graph has the maximum size, and is joined with a head."""
    features = chain(nodes, width)
    graph = Graph(features, "g", field="f")
    head = to_onnx(np.random.default_rng(0).normal(0, 1, (1_000, width + 1)).astype(np.float32), "float32")
    samples = np.random.default_rng(1).random((3, width), np.float32)
    through = Model(joined(features, head), "m").probabilities(samples)
    np.testing.assert_allclose(through, Model(head, "h").probabilities(graph.answers(samples)), atol=1e-5)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (chain(FEATURES.nodes + 1), "1,999 nodes, more than 1,998"),
        (bytes(FEATURES.size + 1), "more than 50,331,648"),
        (chain(2, opset=12), "opset 12: export it with opset 13"),
    ],
    ids=["nodes", "size", "opset"],
)
def test_a_feature_graph_that_cannot_be_part_of_a_model_is_refused(features: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Graph(features, "g", field="f")


def test_a_head_is_not_joined_to_features_of_an_old_opset() -> None:
    with pytest.raises(ValueError, match="opset 12"):
        joined(chain(2, opset=12), to_onnx(WEIGHTS, "float32"))


def test_the_error_for_a_graph_of_images_tells_how_to_export_it() -> None:
    model = onnx.load_model_from_string(chain(2))
    image = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 224, 224])
    model.graph.input[0].CopyFrom(image)
    with pytest.raises(ValueError, match=r"takes 'pixels' float \[batch, 3, 224, 224\] and gives .* Reshape") as caught:
        validated(model.SerializeToString())
    assert "[0, height, width, channels]" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"no model", bytes(MODEL.size + 1)], ids=["empty", "text", "large"])
def test_data_that_is_not_a_model_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="it "):
        validated(data)


def test_weights_in_another_file_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file exists and its weights are valid."""
    model = ours()
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="lies in another file"):
        validated((tmp_path / "m.onnx").read_bytes())
