"""What a graph computes for one sample: how it is counted, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from labelloop.errors import InvalidInput
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper
from onnxruntime import InferenceSession

from scorer_svc.models.cost import Cost
from scorer_svc.models.graph import Graph
from scorer_svc.models.limits import MULTIPLY_ADDS_MAX
from scorer_svc.models.model import Model
from scorer_svc.models.validation import FEATURES, TooCostly, validated
from tests.onnx_graphs import graph_of
from trainer_svc.model.onnx_export import joined, to_onnx

RUN_BYTES_MAX = 512 * 1024 * 1024


def convolutions(count: int, kernel: int, size: int, channels: int = 1) -> bytes:
    """Return a graph of convolutions over a picture of ``size`` by ``size``, each of which keeps its size."""
    names = ["picture", *(f"c{number}" for number in range(count))]
    padding = [kernel // 2, kernel // 2, (kernel - 1) // 2, (kernel - 1) // 2]
    return graph_of(
        [
            helper.make_node("Reshape", ["samples", "shape"], ["picture"]),
            *(helper.make_node("Conv", [names[i], "kernel"], [names[i + 1]], pads=padding) for i in range(count)),
            helper.make_node("Flatten", [names[-1]], ["features"]),
        ],
        channels * size * size,
        {
            "shape": np.array([0, channels, size, size]),
            "kernel": np.ones((channels, channels, kernel, kernel), np.float32),
        },
    )


def test_convolutions_that_take_minutes_for_a_sample_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"multiply-adds.*LABELLOOP_GRAPH_MULTIPLY_ADDS") as caught:
        Graph(convolutions(3, kernel=447, size=448), "g", field="features_sha256")
    assert (caught.value.reason, caught.value.field) == ("MODEL_TOO_COSTLY", "features_sha256")


def test_the_operator_may_allow_more_or_less() -> None:
    data = convolutions(2, kernel=9, size=64)
    cost = validated(data).cost
    assert validated(data, FEATURES, cost.total).cost == cost
    with pytest.raises(TooCostly):
        validated(data, FEATURES, cost.total - 1)


def test_a_step_that_takes_more_than_half_of_the_bound_is_refused() -> None:
    cost = validated(convolutions(1, kernel=9, size=64)).cost
    with pytest.raises(TooCostly, match="in one step"):
        validated(convolutions(1, kernel=9, size=64), FEATURES, 2 * cost.heaviest - 1)


def test_a_model_on_features_of_the_greatest_cost_is_accepted() -> None:
    features = convolutions(2, kernel=9, size=64)
    most = validated(features).cost.total
    head = to_onnx(np.ones((900, 64 * 64 + 1), np.float32), "float32")
    model = Model(joined(features, head), "m", multiply_adds_max=most)
    assert most < model.work < most + 50_000_000


X = helper.make_node("Reshape", ["samples", "shape"], ["x"])
FLAT = helper.make_node("Flatten", ["y"], ["features"])
BY_16 = {"shape": np.array([0, 16, 16])}
BY_4 = {"shape": np.array([0, 4, 8, 8])}


@pytest.mark.parametrize(
    ("step", "weights", "least"),
    [
        (helper.make_node("MatMul", ["x", "w"], ["y"]), {**BY_16, "w": np.ones((16, 5))}, 16 * 16 * 5),
        (helper.make_node("MatMul", ["x", "x"], ["y"]), BY_16, 16 * 16 * 16),
        (helper.make_node("MatMul", ["w", "x"], ["y"]), {**BY_16, "w": np.ones((3, 16))}, 3 * 16 * 16),
        (helper.make_node("Conv", ["x", "w"], ["y"]), {**BY_4, "w": np.ones((7, 4, 3, 3))}, 7 * 36 * 4 * 9),
        (
            helper.make_node("Conv", ["x", "w"], ["y"], group=2, strides=[2, 2]),
            {**BY_4, "w": np.ones((6, 2, 3, 3))},
            6 * 9 * 2 * 9,
        ),
        (helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[5, 5]), BY_4, 4 * 16 * 25),
        (helper.make_node("ReduceSum", ["x", "axes"], ["y"]), {**BY_16, "axes": np.array([1])}, 256),
        (helper.make_node("Sum", ["x"] * 50, ["y"]), BY_16, 50 * 256),
    ],
    ids=lambda value: value.op_type if isinstance(value, NodeProto) else "",
)
def test_a_step_costs_at_least_what_it_multiplies_and_reads(
    step: NodeProto, weights: dict[str, NDArray[Any]], least: int
) -> None:
    weights = {name: each.astype(np.float32) if each.dtype == np.float64 else each for name, each in weights.items()}
    cost = validated(graph_of([X, step, FLAT], 256, weights), FEATURES).cost
    assert least <= cost.heaviest <= 200 * (least + 2_000)
    assert cost.heaviest <= cost.total


def test_a_product_over_the_first_axis_is_counted_by_it() -> None:
    nodes = [helper.make_node("Gemm", ["samples", "w"], ["features"], transB=1)]
    cost = validated(graph_of(nodes, 300, {"w": np.ones((7, 300), np.float32)})).cost
    assert 7 * 300 <= cost.total < 10 * 7 * 300


def test_products_of_numbers_other_than_float32_cost_more() -> None:
    def cost(kind: int) -> Cost:
        nodes = [
            X,
            helper.make_node("Cast", ["x"], ["z"], to=kind),
            helper.make_node("MatMul", ["z", "z"], ["p"]),
            helper.make_node("Cast", ["p"], ["y"], to=TensorProto.FLOAT),
            FLAT,
        ]
        return validated(graph_of(nodes, 256, BY_16)).cost

    assert cost(TensorProto.DOUBLE).heaviest > 10 * cost(TensorProto.FLOAT).heaviest


@pytest.mark.parametrize(
    ("step", "weights", "said"),
    [
        (helper.make_node("Conv", ["x", "w"], ["y"]), np.ones((1, 1, 2, 2, 2, 2), np.float32), "at most 5"),
        (helper.make_node("Cast", ["x"], ["z"], to=TensorProto.STRING), None, "not a plain number"),
    ],
    ids=["a convolution over four dimensions", "text"],
)
def test_steps_whose_cost_cannot_be_bounded_are_refused(
    step: NodeProto, weights: NDArray[np.float32] | None, said: str
) -> None:
    back = [helper.make_node("Cast", ["z"], ["y"], to=TensorProto.FLOAT)] if step.op_type == "Cast" else []
    more = {"shape": np.array([0, 1, 4, 4, 4, 4])} | ({} if weights is None else {"w": weights})
    with pytest.raises(ValueError, match=said):
        validated(graph_of([X, step, *back, FLAT], 256, more))


def test_many_values_held_at_once_are_computed_for_fewer_samples() -> None:
    """All of 1,900 vectors of 3,000 values are read by the last step."""
    names = [f"r{number}" for number in range(1_900)]
    nodes = [helper.make_node("Relu", ["samples"], [name]) for name in names]
    data = graph_of([*nodes, helper.make_node("Sum", names, ["features"])], 3_000)
    held, runs = validated(data).cost.held_bytes, list[int]()

    class Watched(Graph):
        def _run(self, session: InferenceSession, rows: NDArray[Any]) -> NDArray[np.float32]:
            runs.append(len(rows))
            return super()._run(session, rows)

    graph = Watched(data, "g", field="f")
    samples = np.ones((100, 3_000), np.float32)
    np.testing.assert_allclose(graph.answers(samples), 1_900 * samples)
    np.testing.assert_allclose(graph.classify(samples), 1_900 * samples)
    assert max(runs) * held <= RUN_BYTES_MAX


def test_a_weight_that_many_steps_share_is_counted_for_each() -> None:
    """A session lays it out anew for each of them: these would take 3.2 GB."""
    names = ["samples", *(f"p{number}" for number in range(199)), "features"]
    nodes = [helper.make_node("MatMul", [names[i], "w"], [names[i + 1]]) for i in range(200)]
    with pytest.raises(TooCostly, match="800,000,000 numbers of weights"):
        validated(graph_of(nodes, 2_000, {"w": np.ones((2_000, 2_000), np.float32)}), FEATURES)


def test_a_heavy_step_is_run_for_few_samples_at_once() -> None:
    graph = Graph(convolutions(1, kernel=99, size=128), "g", field="f")
    assert 1 <= graph._tile_samples <= graph._run_samples
    assert graph._run_samples * graph.work <= MULTIPLY_ADDS_MAX
