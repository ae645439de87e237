"""Convert command-line options to values of a run spec, and enum names to text. Pure functions."""

from __future__ import annotations

from labelloop.domain.limits import AUDIT_MAX
from labelloop.domain.statistics import fewest_to_show
from labelloop.events.v1.events_pb2 import AgreementRule, FeatureKind, GuaranteeSpec, LabelSource, Protocol
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse
from labelloop.scorer.v1.scorer_pb2 import Strategy

from labelloop_cli.choices import AgreementName, FeaturesName, FirstName, LabelSourceName, ProtocolName, StrategyName

_IMAGE_SIDE_MIN = 8  # pixels: smaller images are used as they are


def strategy(name: StrategyName | FirstName) -> Strategy.ValueType:
    return Strategy.Value(f"STRATEGY_{name.replace('-', '_').upper()}")


def protocol(name: ProtocolName) -> Protocol.ValueType:
    return Protocol.Value(f"PROTOCOL_{name.upper()}")


def label_source(name: LabelSourceName) -> LabelSource.ValueType:
    return LabelSource.Value(f"LABEL_SOURCE_{name.upper()}")


def agreement(name: AgreementName) -> AgreementRule.ValueType:
    return AgreementRule.Value(f"AGREEMENT_RULE_{name.replace('-', '_').upper()}")


def features(name: FeaturesName, dataset: DescribeDatasetResponse) -> FeatureKind.ValueType:
    """Return the kind of features: for ``auto``, the dataset's own graph, else patches of images, else plain values."""
    if name is not FeaturesName.auto:
        return FeatureKind.Value(f"FEATURE_KIND_{name.upper()}")
    if dataset.has_graph:
        return FeatureKind.FEATURE_KIND_GRAPH
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
