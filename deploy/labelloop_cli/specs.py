"""Run specs from words. Pure."""

from __future__ import annotations

from enum import StrEnum

from labelloop.events.v1.events_pb2 import AgreementRule, LabelSource, Protocol
from labelloop.scorer.v1.scorer_pb2 import Strategy


class StrategyName(StrEnum):
    random = "random"
    least_confidence = "least-confidence"
    margin = "margin"
    entropy = "entropy"


class FirstName(StrEnum):
    random = "random"
    in_order = "in-order"


class ProtocolName(StrEnum):
    honest = "honest"
    published = "published"


class LabelSourceName(StrEnum):
    dataset = "dataset"
    queue = "queue"


class AgreementName(StrEnum):
    majority = "majority"
    dawid_skene = "dawid-skene"


def strategy(name: StrategyName | FirstName) -> Strategy.ValueType:
    return Strategy.Value(f"STRATEGY_{name.replace('-', '_').upper()}")


def protocol(name: ProtocolName) -> Protocol.ValueType:
    return Protocol.Value(f"PROTOCOL_{name.upper()}")


def label_source(name: LabelSourceName) -> LabelSource.ValueType:
    return LabelSource.Value(f"LABEL_SOURCE_{name.upper()}")


def agreement(name: AgreementName) -> AgreementRule.ValueType:
    return AgreementRule.Value(f"AGREEMENT_RULE_{name.replace('-', '_').upper()}")


def word(enum_name: str) -> str:
    """``STRATEGY_LEAST_CONFIDENCE`` as people write it: ``least-confidence``."""
    for prefix in ("LABEL_SOURCE_", "STRATEGY_", "PROTOCOL_", "PHASE_", "SKIP_KIND_"):
        enum_name = enum_name.removeprefix(prefix)
    return enum_name.lower().replace("_", "-")
