"""A run's figures in words. Pure."""

from __future__ import annotations

from labelloop.events.v1.events_pb2 import Protocol
from labelloop.trainer.v1.trainer_pb2 import MeasuredAccuracy, RoundResult, RunStatus

NONE = "–"


def judged(result: RoundResult) -> MeasuredAccuracy | None:
    """What a model is judged by: the evaluation set, or the control samples where there is none."""
    if result.HasField("evaluation"):
        return result.evaluation
    return result.control if result.HasField("control") else None


def judged_by(result: RoundResult, protocol: Protocol.ValueType) -> tuple[MeasuredAccuracy, str] | None:
    """The accuracy of a model and on what: where it can be judged by nothing else, by what decided when to stop, which
    are samples that were chosen for being hard."""
    if accuracy := judged(result):
        return accuracy, "evaluation" if result.HasField("evaluation") else "control"
    if not result.HasField("stopping"):
        return None
    return result.stopping, "stopping set" if protocol == Protocol.PROTOCOL_PUBLISHED else "cross-validated"


def accuracy(run: RunStatus) -> str:
    """The newest, with its interval, and on what."""
    found = judged_by(run.latest, run.spec.protocol) if run.HasField("latest") else None
    if not found:
        return NONE
    measured, on = found
    return f"{measured.value:.4f} ({measured.low:.3f} to {measured.high:.3f}, {on}, n={measured.total})"


def labels(run: RunStatus) -> str:
    """Those of the budget."""
    return f"{run.labels_paid - _audited(run)}/{run.spec.label_budget}"


def audit(run: RunStatus) -> str:
    """Those beyond the budget."""
    return f"{_audited(run)}/{run.spec.guarantee.audit_size}" if run.spec.HasField("guarantee") else NONE


def auto_labels(run: RunStatus) -> str:
    """How many an audit will allow is known only when it has."""
    if budget := run.spec.auto_label_budget:
        return f"{run.auto_labels}/{budget}"
    if run.HasField("certificate"):
        return f"{run.auto_labels}/{run.certificate.count}" if run.certificate.count else "0"
    return NONE


def paid(run: RunStatus) -> str:
    """All labels, as part of a sentence."""
    audited = _audited(run)
    return f"{run.labels_paid - audited} labels" + (f" and {audited} to audit with" if audited else "")


def _audited(run: RunStatus) -> int:
    """An audit that is under way shows by the labels that no budget allows for."""
    return max(run.audit_labels, run.labels_paid - run.spec.label_budget)
