"""An honest fit: control accuracy in its figures, and columns that it may leave out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from labelloop.domain.limits import OPTIONAL_COLUMNS
from labelloop.events.v1.events_pb2 import FeatureKind, Protocol, RunSpec
from onnx import helper

from scorer_svc.features.onnx_chain import INPUT, OUTPUT, graph_bytes
from trainer_svc.model.adam_softmax import Count, start_state, with_bias
from trainer_svc.model.fit import FitJob, carry_out
from trainer_svc.model.onnx_export import optional_columns, weights_of

_EASY = [float(10 * label) for label in (0, 0, 0, 1, 1, 1)]


def job(values: list[float], labels: list[int], control: list[int]) -> FitJob:
    features = with_bias(torch.tensor(values)[:, None].numpy())
    drawn = torch.zeros(len(labels), dtype=torch.bool)
    drawn[control] = True
    return FitJob(
        spec=RunSpec(protocol=Protocol.PROTOCOL_HONEST),
        dtype="float32",
        features=features,
        labels=torch.tensor(labels),
        paid=torch.ones(len(labels), dtype=torch.bool),
        control=drawn,
        start=start_state(3, 1, scale=0, seed=0),
        evaluation=None,
        report=False,
    )


@pytest.mark.parametrize(
    ("values", "labels", "control", "expected"),
    [
        (_EASY, [0, 0, 0, 1, 1, 1], [0, 5], Count(2, 2)),
        ([*_EASY, 20.0], [0, 0, 0, 1, 1, 1, 2], [0, 6], Count(1, 2)),
        ([*_EASY, 20.0], [0, 0, 0, 1, 1, 1, 2], [6], Count(0, 1)),
        ([0.0, 10.0], [0, 1], [0, 1], Count(0, 0)),
    ],
    ids=["all seen", "one is the only one of its class", "and no other is drawn", "nothing can be held out"],
)
def test_a_control_sample_that_is_the_only_one_of_its_class_counts_as_wrong(
    values: list[float], labels: list[int], control: list[int], expected: Count
) -> None:
    assert carry_out(job(values, labels, control)).figures.control.count == expected


@pytest.mark.parametrize(
    ("report", "control", "judged"),
    [(True, [0, 1, 3], 3), (False, [0, 1, 3], 0), (True, [0], 0), (True, [], 0), (True, list(range(6)), 0)],
    ids=["a report with controls", "no report", "a single control", "no control", "no other sample"],
)
def test_control_samples_get_a_model_of_their_own_only_where_a_report_shows_it(
    report: bool, control: list[int], judged: int
) -> None:
    labels = [0, 0, 0, 1, 1, 1]
    evaluation = with_bias(torch.tensor([1.0, 9.0, 8.0])[:, None].numpy()), torch.tensor([0, 1, 1])
    one = replace(job(_EASY, labels, control), report=report, evaluation=evaluation)
    assert carry_out(one).figures.control_evaluation.total == judged


def feature_graph(notes: dict[str, str]) -> bytes:
    """A graph that doubles three values, with metadata."""
    weights = {"twice": np.float32(2)}
    return graph_bytes("g", [helper.make_node("Mul", [INPUT, "twice"], [OUTPUT])], weights, "float32", 3, 3, notes)


def test_only_features_learned_here_say_what_a_fit_may_leave_out() -> None:
    rng = np.random.default_rng(0)
    labels = [0, 1] * 20
    values = np.c_[np.array(labels) * 2.0, rng.normal(0, 9, (40, 2))].astype(np.float32)
    graph = feature_graph({OPTIONAL_COLUMNS: "2"})
    plain = replace(
        job([0.0] * 40, labels, [0]), features=with_bias(values), graph=graph, start=start_state(2, 3, scale=0, seed=0)
    )
    used = {}
    for kind in (FeatureKind.FEATURE_KIND_SCATTERING, FeatureKind.FEATURE_KIND_GRAPH):
        spec = RunSpec(protocol=Protocol.PROTOCOL_HONEST, features=kind)
        result = carry_out(replace(plain, spec=spec))
        used[kind] = bool(result.weights[:, 1:3].any())
        assert (weights_of(result.head) == result.weights.numpy()).all()
    assert used == {FeatureKind.FEATURE_KIND_SCATTERING: False, FeatureKind.FEATURE_KIND_GRAPH: True}


def test_graphs_say_how_many_columns_are_optional_or_nothing() -> None:
    assert optional_columns(feature_graph({}), 3) == 0
    assert optional_columns(feature_graph({OPTIONAL_COLUMNS: "2"}), 3) == 2
    for wrong in ("3", "-1", "two", "", "1.5"):
        with pytest.raises(ValueError, match="left out"):
            optional_columns(feature_graph({OPTIONAL_COLUMNS: wrong}), 3)
