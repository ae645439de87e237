"""Memory limits, checked before a run begins or as soon as its features are known."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from labelloop.artifacts.formats import encode_evaluation
from labelloop.errors import InvalidInput, LimitExceeded
from labelloop.events.v1.events_pb2 import (
    FeatureKind,
    FeaturesLearned,
    Inheritance,
    LabelSource,
    PoolPublished,
    Protocol,
    RunSpec,
)
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse
from labelloop.scorer.v1.scorer_pb2 import Strategy

from tests.unused import UNUSED
from trainer_svc.domain.spec_validation import VALUES_MAX, check_spec, check_width
from trainer_svc.run_cache import EvaluationSets

PIXELS, PATCHES, GRAPH = (
    FeatureKind.FEATURE_KIND_PIXELS,
    FeatureKind.FEATURE_KIND_PATCHES,
    FeatureKind.FEATURE_KIND_GRAPH,
)


def spec(features: FeatureKind.ValueType, label_budget: int = 400) -> RunSpec:
    return RunSpec(
        strategy=Strategy.STRATEGY_MARGIN,
        first_strategy=Strategy.STRATEGY_RANDOM,
        batch_size=10,
        label_budget=label_budget,
        protocol=Protocol.PROTOCOL_HONEST,
        label_source=LabelSource.LABEL_SOURCE_DATASET,
        report_every=1,
        features=features,
    )


def dataset(side: int, evaluation_count: int = 0) -> DescribeDatasetResponse:
    return DescribeDatasetResponse(
        sample_count=1_000_000,
        shape=[side, side],
        dtype="uint8",
        classes=map(str, range(10)),
        has_labels=True,
        evaluation_count=evaluation_count,
    )


@pytest.mark.parametrize(
    ("features", "label_budget", "side", "evaluation_count", "field"),
    [
        (PIXELS, 277_000, 28, 0, None),
        (PIXELS, 640_000, 28, 0, "label_budget"),
        (PATCHES, 277_000, 28, 0, None),
        (PATCHES, 278_000, 28, 0, "label_budget"),
        (PATCHES, 400, 28, 277_000, None),
        (PATCHES, 400, 28, 278_000, "dataset.evaluation"),
        (PIXELS, 400, 1_000, 0, "dataset"),
        (PATCHES, 400, 1_000, 0, None),
        (PATCHES, 400, 1_500, 0, "dataset"),
    ],
)
def test_memory_limits_apply_to_the_features_that_models_see(
    features: FeatureKind.ValueType, label_budget: int, side: int, evaluation_count: int, field: str | None
) -> None:
    described = dataset(side, evaluation_count)
    if field is None:
        check_spec(spec(features, label_budget), described, Inheritance())
        return
    with pytest.raises(LimitExceeded) as raised:
        check_spec(spec(features, label_budget), described, Inheritance())
    assert raised.value.field == f"spec.{field}"


def test_the_features_of_a_graph_are_checked_once_it_is_known() -> None:
    wanted, described = spec(GRAPH, 400_000), dataset(28)
    described.has_graph = True
    check_spec(wanted, described, Inheritance())
    pool = PoolPublished(classes=described.classes)
    check_width(wanted, pool, 0, 1_200)
    with pytest.raises(LimitExceeded, match="the training set"):
        check_width(wanted, pool, 30_000, 1_200)
    with pytest.raises(LimitExceeded, match="the model"):
        check_width(wanted, pool, 0, 900_000)


def test_the_published_protocol_refuses_to_balance_classes() -> None:
    wanted = spec(PIXELS)
    wanted.balance_classes = True
    check_spec(wanted, dataset(28, 100), Inheritance())
    wanted.protocol, wanted.stopping_sample_count = Protocol.PROTOCOL_PUBLISHED, 50
    with pytest.raises(InvalidInput, match="leave balance_classes out") as raised:
        check_spec(wanted, dataset(28, 100), Inheritance())
    assert (raised.value.field, raised.value.reason) == ("spec.balance_classes", "NOT_AS_PUBLISHED")


class OneArtifact:
    """A store of two evaluation samples."""

    async def get(self, digest: str) -> bytes:
        return encode_evaluation(np.zeros((2, 3), np.uint8), np.zeros(2, np.int32))


async def test_an_evaluation_set_is_limited_by_its_feature_count() -> None:
    sets = EvaluationSets(UNUSED, cast(Any, OneArtifact()))
    learned = FeaturesLearned(features_sha256="f", feature_count=VALUES_MAX // 2 + 1)
    assert (await sets.get("e", None))[0].shape == (2, 4)
    with pytest.raises(LimitExceeded, match="2 evaluation samples of 250,000,001 features"):
        await sets.get("e", learned)
