"""What is said of a pool before a run."""

from __future__ import annotations

from labelloop.domain.limits import PATCH_FEATURES
from labelloop.events.v1.events_pb2 import FeatureKind, SampleKind, SampleLayout, TableColumn
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse
from labelloop_cli.output import pool_summary

from scorer_svc.features import patches, spectral_embedding

PIXELS, PATCHES, GRAPH = (
    FeatureKind.FEATURE_KIND_PIXELS,
    FeatureKind.FEATURE_KIND_PATCHES,
    FeatureKind.FEATURE_KIND_GRAPH,
)
IMAGE = SampleLayout(kind=SampleKind.SAMPLE_KIND_IMAGE, height=20, width=30, channels=3, full_scale=255)


def pool(**fields: object) -> DescribeDatasetResponse:
    defaults = {"sample_count": 1_500, "shape": [20, 30, 3], "dtype": "uint8", "classes": ["cat", "dog"]}
    return DescribeDatasetResponse(**(defaults | fields))  # type: ignore[arg-type]


def test_a_layout_says_what_a_sample_is() -> None:
    columns = [TableColumn(name="age"), TableColumn(name="colour", categories=["red"])]
    for layout, said in (
        (IMAGE, "pictures of 30 x 20 pixels, 3 channels, uint8, values 0 to 255"),
        (SampleLayout(kind=SampleKind.SAMPLE_KIND_ROW, columns=columns), "rows of 2 columns, 1 of numbers and 1 of"),
        (SampleLayout(kind=SampleKind.SAMPLE_KIND_TEXT), "texts"),
        (SampleLayout(kind=SampleKind.SAMPLE_KIND_VECTOR), "vectors of 1800 values"),
        (SampleLayout(), "arrays of 20 x 30 x 3 values"),
    ):
        assert said in pool_summary.layout(pool(layout=layout))


def test_classes_are_listed_with_counts_where_labels_are_known_and_the_rest_counted() -> None:
    assert pool_summary.classes(pool(class_counts=[1_000, 500])) == "2: cat 1,000, dog 500"
    assert pool_summary.classes(pool()) == "2: cat, dog"
    assert pool_summary.classes(pool(classes=[])) == "unknown: name them with --classes"
    assert pool_summary.classes(pool(classes=[f"c{each}" for each in range(25)])).endswith("c19 and 5 more")


def test_memory_counts_the_pool_and_features_of_known_number() -> None:
    described = pool(sample_count=1_024, pool_bytes=1024**2)
    assert pool_summary.scorer_bytes(described, PIXELS) == 1024**2
    assert pool_summary.scorer_bytes(described, PATCHES) == 1024**2 + 1_024 * 1_800 * 4
    assert pool_summary.memory(described, PIXELS) == (
        "about 1.0 MiB in the oracle beside its program; the scorers map files of 1.0 MiB"
    )
    described.oracle_bytes = 3 * 1024**2
    assert pool_summary.memory(described, PIXELS).startswith("about 3.0 MiB in the oracle")
    assert pool_summary.memory(described, GRAPH).endswith("1.0 MiB and those of the features")


def test_the_time_to_expect_is_said_with_what_it_is_based_on() -> None:
    described = pool(pool_bytes=30 * 1024**3, read_seconds=120.4)
    told = dict(pool_summary.facts(described, PIXELS))["time"]
    assert "in 120 s, 255.1 MiB a second" in told
    assert "publishing it takes as long again" in told
    assert "less than a second" in pool_summary.time(pool(read_seconds=0.2))
    assert "time" not in dict(pool_summary.facts(pool(), PIXELS))


def test_patches_have_the_number_of_features_that_is_told() -> None:
    assert patches._VECTORS * 4 + spectral_embedding.COORDINATES == patches._VECTORS_ALONE * 4 == PATCH_FEATURES


def test_duplicates_and_stand_ins_are_not_passed_over() -> None:
    told = dict(pool_summary.facts(pool(duplicate_count=1_200, stand_in=True, description="Digits."), PIXELS))
    assert told["duplicates"] == "1,200 samples equal an earlier one"
    assert told["stand-in"] == "this is not the dataset that was asked for"
    assert "1,200 duplicates" in pool_summary.brief(pool(duplicate_count=1_200), PIXELS)
