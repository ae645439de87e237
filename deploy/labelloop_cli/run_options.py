"""Choose values of a run spec that depend on the dataset, and convert enum names to text. Pure functions."""

from __future__ import annotations

from labelloop.domain.limits import AUDIT_MAX, TEXT_DTYPE
from labelloop.domain.sample_layout import stated_layout
from labelloop.domain.statistics import fewest_to_show
from labelloop.events.v1.events_pb2 import FeatureKind, GuaranteeSpec, SampleKind
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse

_IMAGE_SIDE_MIN = 8  # pixels: smaller images are used as they are


def auto_features(dataset: DescribeDatasetResponse) -> FeatureKind.ValueType:
    """Return the features that suit a dataset."""
    return chosen_features(dataset)[0]


def chosen_features(dataset: DescribeDatasetResponse) -> tuple[FeatureKind.ValueType, str]:
    """Return the features that suit a dataset, and why.

    They are those of its graph, else weighted counts of words in texts, else scattering of pictures, else standardised
    values of vectors and rows of tables.
    """
    if dataset.has_graph:
        return FeatureKind.FEATURE_KIND_GRAPH, "features come from the dataset's graph"
    if dataset.dtype == TEXT_DTYPE:
        return FeatureKind.FEATURE_KIND_TFIDF, "models see weighted counts of words and parts of words"
    layout = stated_layout(dataset)
    if layout.kind == SampleKind.SAMPLE_KIND_ROW:
        return FeatureKind.FEATURE_KIND_STANDARDIZED, "models see numbers standardised, and categories as indicators"
    if layout.kind != SampleKind.SAMPLE_KIND_IMAGE and layout.on_one_scale:
        return FeatureKind.FEATURE_KIND_PIXELS, "models see the values as they are, because all are of one scale"
    if layout.kind != SampleKind.SAMPLE_KIND_IMAGE:
        return FeatureKind.FEATURE_KIND_STANDARDIZED, "models see values standardised, because they differ in scale"
    if min(layout.height, layout.width) < _IMAGE_SIDE_MIN:
        size, least = f"{layout.width} x {layout.height}", f"{_IMAGE_SIDE_MIN} x {_IMAGE_SIDE_MIN}"
        return (
            FeatureKind.FEATURE_KIND_PIXELS,
            f"models see pixels, because pictures of {size} are smaller than {least}",
        )
    return FeatureKind.FEATURE_KIND_SCATTERING, "features are learned by scattering of the pictures"


def audit_size(guarantee: GuaranteeSpec, rest: int) -> int:
    """Return the default number of samples to audit.

    It is twice the smallest number that can show the guaranteed accuracy, so that the audit can still pass with one
    mistake, but at most half of ``rest`` if that is enough. The trainer checks whether the guarantee is feasible.

    Args:
        rest: Number of samples that remain in the pool after the label budget.
    """
    target, confidence = guarantee.target_accuracy, guarantee.confidence
    if not 0 < target < 1 or not 0 < confidence < 1:
        return 1
    fewest = fewest_to_show(target, confidence)
    return min(max(fewest, min(2 * fewest, rest // 2)), AUDIT_MAX)


def word(enum_name: str) -> str:
    """Convert an enum name to its text on the command line: ``STRATEGY_LEAST_CONFIDENCE`` is ``least-confidence``."""
    for prefix in ("LABEL_SOURCE_", "STRATEGY_", "PROTOCOL_", "PHASE_", "SKIP_KIND_", "PURPOSE_", "FEATURE_KIND_"):
        enum_name = enum_name.removeprefix(prefix)
    return enum_name.lower().replace("_", "-")
