"""Default features, and default sizes of audits."""

from __future__ import annotations

import pytest
from labelloop.events.v1.events_pb2 import FeatureKind, GuaranteeSpec, SampleKind, SampleLayout
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse
from labelloop_cli.run_options import audit_size, auto_features, chosen_features

from trainer_svc.domain.guarantee import audit_size_needed, guarantee_fault, lower_bound

VECTOR, ROW = SampleKind.SAMPLE_KIND_VECTOR, SampleKind.SAMPLE_KIND_ROW


@pytest.mark.parametrize(("target", "confidence"), [(0.99, 0.95), (0.95, 0.95), (0.9, 0.9), (0.995, 0.99)])
def test_the_default_audit_size_allows_for_one_error(target: float, confidence: float) -> None:
    size = audit_size(GuaranteeSpec(target_accuracy=target, confidence=confidence), 60_000)
    needed = audit_size_needed(target, confidence, 10_000_000)
    assert needed is not None
    assert size == 2 * needed
    assert lower_bound(size - 1, size, confidence) >= target


@pytest.mark.parametrize(("rest", "size", "said"), [(1_000, 500, ""), (598, 299, "audit 378 at least")])
def test_an_audit_takes_at_most_half_the_pool_and_a_shortfall_is_reported(rest: int, size: int, said: str) -> None:
    assert audit_size(GuaranteeSpec(target_accuracy=0.99, confidence=0.95), rest) == size
    fault = guarantee_fault(0.99, 0.95, size, rest)
    assert said in fault if said else not fault


@pytest.mark.parametrize(("target", "confidence"), [(1.0, 0.95), (0.99, 1.0), (0.0, 0.95)])
def test_the_trainer_and_not_the_command_refuses_invalid_guarantees(target: float, confidence: float) -> None:
    size = audit_size(GuaranteeSpec(target_accuracy=target, confidence=confidence), 60_000)
    assert "between 0 and 1" in guarantee_fault(target, confidence, size, 60_000)


def test_texts_are_seen_by_their_words_unless_a_graph_is_given() -> None:
    described = DescribeDatasetResponse(dtype="utf8", shape=[1])
    assert auto_features(described) == FeatureKind.FEATURE_KIND_TFIDF
    described.has_graph = True
    assert auto_features(described) == FeatureKind.FEATURE_KIND_GRAPH


def image(height: int, width: int) -> SampleLayout:
    return SampleLayout(kind=SampleKind.SAMPLE_KIND_IMAGE, height=height, width=width, channels=1, full_scale=1)


@pytest.mark.parametrize(
    ("dataset", "features", "why"),
    [
        (DescribeDatasetResponse(shape=[28, 28], dtype="uint8"), "SCATTERING", "scattering"),
        (DescribeDatasetResponse(shape=[28, 28], dtype="uint8", has_graph=True), "GRAPH", "graph"),
        (DescribeDatasetResponse(shape=[784], dtype="float32", layout=image(28, 28)), "SCATTERING", "scattering"),
        (DescribeDatasetResponse(shape=[9], dtype="float32"), "PIXELS", "of one scale"),
        (
            DescribeDatasetResponse(shape=[9], dtype="float32", layout=SampleLayout(kind=VECTOR)),
            "STANDARDIZED",
            "differ",
        ),
        (
            DescribeDatasetResponse(shape=[9], dtype="float32", layout=SampleLayout(kind=ROW)),
            "STANDARDIZED",
            "categories",
        ),
        (DescribeDatasetResponse(shape=[1, 7, 9], dtype="uint8", layout=image(7, 9)), "PIXELS", "smaller than 8 x 8"),
    ],
)
def test_default_features_follow_from_the_layout_and_the_reason_is_told(
    dataset: DescribeDatasetResponse, features: str, why: str
) -> None:
    assert auto_features(dataset) == FeatureKind.Value(f"FEATURE_KIND_{features}")
    assert why in chosen_features(dataset)[1]
