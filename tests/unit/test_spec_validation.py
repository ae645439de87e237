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
    GuaranteeSpec,
    Inheritance,
    LabelSource,
    PoolPublished,
    Protocol,
    RunSpec,
    SampleKind,
    SampleLayout,
    TableColumn,
)
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse
from labelloop.scorer.v1.scorer_pb2 import Strategy

from tests.unused import UNUSED
from trainer_svc.domain.spec_validation import VALUES_MAX, check_labelled, check_spec, check_width
from trainer_svc.run_cache import EvaluationSets

PIXELS, PATCHES, SCATTERING, GRAPH, STANDARDIZED = (
    FeatureKind.FEATURE_KIND_PIXELS,
    FeatureKind.FEATURE_KIND_PATCHES,
    FeatureKind.FEATURE_KIND_SCATTERING,
    FeatureKind.FEATURE_KIND_GRAPH,
    FeatureKind.FEATURE_KIND_STANDARDIZED,
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


@pytest.mark.parametrize("features", [PATCHES, SCATTERING])
@pytest.mark.parametrize(
    ("layout", "refused"),
    [
        (SampleLayout(kind=SampleKind.SAMPLE_KIND_IMAGE, height=4, width=9, channels=1, full_scale=1), False),
        (SampleLayout(kind=SampleKind.SAMPLE_KIND_IMAGE, height=3, width=12, channels=1, full_scale=1), True),
        (SampleLayout(kind=SampleKind.SAMPLE_KIND_VECTOR), True),
        (None, True),
    ],
)
def test_features_of_pictures_are_for_pictures_of_any_layout(
    layout: SampleLayout | None, refused: bool, features: FeatureKind.ValueType
) -> None:
    described = DescribeDatasetResponse(
        sample_count=1_000, shape=[36], dtype="float32", classes=["a", "b"], has_labels=True, layout=layout
    )
    if not refused:
        check_spec(spec(features), described, Inheritance())
        return
    with pytest.raises(InvalidInput, match="learned from pictures") as raised:
        check_spec(spec(features), described, Inheritance())
    assert raised.value.reason == "NO_IMAGES"


TABLE = SampleLayout(
    kind=SampleKind.SAMPLE_KIND_ROW,
    columns=[TableColumn(name="a"), TableColumn(name="b", categories=["x", "y"]), TableColumn(name="c")],
)


@pytest.mark.parametrize("features", [PIXELS, FeatureKind.FEATURE_KIND_UNSPECIFIED, STANDARDIZED])
@pytest.mark.parametrize("incomplete", [False, True])
def test_categories_and_missing_values_need_features(features: FeatureKind.ValueType, incomplete: bool) -> None:
    described = DescribeDatasetResponse(
        sample_count=1_000, shape=[3], dtype="float32", classes=["a", "b"], has_labels=True, layout=TABLE
    )
    if incomplete:
        del described.layout.columns[1].categories[:]
        described.layout.columns[0].has_missing = True
    if features == STANDARDIZED:
        check_spec(spec(features), described, Inheritance())
        return
    with pytest.raises(InvalidInput) as raised:
        check_spec(spec(features), described, Inheritance())
    assert (raised.value.reason, raised.value.field) == ("NEEDS_FEATURES", "spec.features")


def test_the_indicators_of_categories_count_towards_memory_limits() -> None:
    described = dataset(1)
    described.layout.kind = SampleKind.SAMPLE_KIND_ROW
    described.layout.columns.extend(
        TableColumn(name=str(i), categories=[str(category) for category in range(200)]) for i in range(9)
    )
    described.shape[:] = [9]
    check_spec(spec(STANDARDIZED, 277_000), described, Inheritance())
    with pytest.raises(LimitExceeded, match="the training set"):
        check_spec(spec(STANDARDIZED, 278_000), described, Inheritance())


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


TFIDF = FeatureKind.FEATURE_KIND_TFIDF


def texts() -> DescribeDatasetResponse:
    described = dataset(1)
    described.dtype, described.shape[:] = "utf8", [1]
    return described


def test_texts_need_features_of_texts() -> None:
    check_spec(spec(TFIDF), texts(), Inheritance())
    for features in (PIXELS, PATCHES, FeatureKind.FEATURE_KIND_UNSPECIFIED, FeatureKind.FEATURE_KIND_STANDARDIZED):
        with pytest.raises(InvalidInput, match="choose features: tfidf") as raised:
            check_spec(spec(features), texts(), Inheritance())
        assert raised.value.field == "spec.features"
    with pytest.raises(InvalidInput, match="tfidf counts words, but samples are uint8"):
        check_spec(spec(TFIDF), dataset(28), Inheritance())
    published = spec(TFIDF)
    published.protocol = Protocol.PROTOCOL_PUBLISHED
    with pytest.raises(InvalidInput):
        check_spec(published, texts(), Inheritance())


def test_memory_limits_apply_to_the_features_of_texts() -> None:
    check_spec(spec(TFIDF, 900_000), texts(), Inheritance())
    described = texts()
    described.sample_count = 3_000_000
    with pytest.raises(LimitExceeded, match="the training set"):
        check_spec(spec(TFIDF, 1_700_000), described, Inheritance())


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


def test_equal_samples_are_one_sample_to_ask_for() -> None:
    pool = dataset(8)
    pool.sample_count, pool.duplicate_count = 1_000, 980
    check_spec(spec(PIXELS, label_budget=20), pool, Inheritance())
    with pytest.raises(InvalidInput, match=r"20 left to label: 980 equal an earlier one and share its label$"):
        check_spec(spec(PIXELS, label_budget=21), pool, Inheritance())


def test_known_samples_that_are_equal_count_once() -> None:
    """Three known samples and a gold one, of which two are equal."""
    pool = dataset(8)
    pool.sample_count, pool.duplicate_count, pool.repeated_count = 1_000, 980, 1
    known = Inheritance(sample_ids=[1, 2, 3], classes=[0] * 3, auto_labelled=[False] * 3)

    def wanted(label_budget: int) -> RunSpec:
        made = spec(PIXELS, label_budget)
        made.label_source = LabelSource.LABEL_SOURCE_QUEUE
        made.queue.gold.add(sample_id=4)
        return made

    check_spec(wanted(17), pool, known)
    with pytest.raises(InvalidInput, match="17 left to label"):
        check_spec(wanted(18), pool, known)


def test_a_guarantee_is_refused_before_labels_are_paid_if_the_pool_is_too_large_to_rank_at_once() -> None:
    wanted, described = spec(PIXELS), dataset(28)
    wanted.guarantee.CopyFrom(GuaranteeSpec(target_accuracy=0.9, confidence=0.9, audit_size=1_000))
    for possible in (1_000_000, 20_000_000):
        described.sample_count = possible
        check_spec(wanted, described, Inheritance())
    described.sample_count = 20_000_001
    with pytest.raises(LimitExceeded, match="order of the pool") as raised:
        check_spec(wanted, described, Inheritance())
    assert raised.value.field == "spec.guarantee"


def test_power_margin_is_refused_if_the_pool_is_too_large_to_rank_at_once() -> None:
    wanted, described = spec(PIXELS), dataset(28)
    wanted.strategy = Strategy.STRATEGY_POWER_MARGIN
    described.sample_count = 20_000_000
    check_spec(wanted, described, Inheritance())
    described.sample_count = 20_000_001
    with pytest.raises(LimitExceeded, match="order of the pool") as raised:
        check_spec(wanted, described, Inheritance())
    assert raised.value.field == "spec.strategy"


def test_a_pool_with_many_classes_is_refused_for_none_of_its_answers() -> None:
    """Answers are held for a few thousand samples at once."""
    described = dataset(2)
    described.sample_count = 100_000_000
    described.classes[:] = map(str, range(1_000))
    check_spec(spec(PIXELS), described, Inheritance())


@pytest.mark.parametrize(("duplicates", "refused"), [(3_700_000 - 400, False), (3_700_000 - 399, True)])
def test_more_duplicates_than_a_request_can_leave_out_are_refused(duplicates: int, refused: bool) -> None:
    described = dataset(2)
    described.sample_count, described.duplicate_count = 1_000_000_000, duplicates
    if not refused:
        check_spec(spec(PIXELS), described, Inheritance())
        return
    with pytest.raises(LimitExceeded, match="leaves out"):
        check_spec(spec(PIXELS), described, Inheritance())


def test_a_run_with_millions_of_labels_cannot_be_continued() -> None:
    check_labelled("r", 300_000)
    with pytest.raises(LimitExceeded, match="too many to continue"):
        check_labelled("r", 10_000_000)
