"""Choose values of a run spec that depend on the dataset, and convert enum names to text. Pure functions."""

from __future__ import annotations

from labelloop.domain.limits import AUDIT_MAX, TEXT_DTYPE
from labelloop.domain.statistics import fewest_to_show
from labelloop.events.v1.events_pb2 import FeatureKind, GuaranteeSpec
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse

_IMAGE_SIDE_MIN = 8  # pixels: smaller images are used as they are


def auto_features(dataset: DescribeDatasetResponse) -> FeatureKind.ValueType:
    """Return the features that suit a dataset.

    They are those of its graph, else weighted counts of words in texts, else patches of images, else plain values.
    """
    if dataset.has_graph:
        return FeatureKind.FEATURE_KIND_GRAPH
    if dataset.dtype == TEXT_DTYPE:
        return FeatureKind.FEATURE_KIND_TFIDF
    images = dataset.dtype == "uint8" and len(dataset.shape) in (2, 3) and min(dataset.shape[:2]) >= _IMAGE_SIDE_MIN
    return FeatureKind.FEATURE_KIND_PATCHES if images else FeatureKind.FEATURE_KIND_PIXELS


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
