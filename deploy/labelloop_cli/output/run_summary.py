"""Format a run's accuracy and label counts for display. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labelloop.domain.accuracy_estimate import AccuracyEstimate, accuracy_estimate
from labelloop.events.v1.events_pb2 import Accuracy, Protocol
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1.trainer_pb2 import MeasuredAccuracy, Phase, RoundResult, RunStatus, UnfinishedImport

from labelloop_cli.output import hold_ups
from labelloop_cli.run_options import word

NONE = "–"
UNKNOWN = "accuracy not known"


def estimate_of(
    result: RoundResult, protocol: Protocol.ValueType, classes: Sequence[str] = ()
) -> AccuracyEstimate | None:
    """Return what is known of a model's accuracy; None if nothing is."""
    return accuracy_estimate(
        _counts(result.evaluation),
        _counts(result.control),
        _counts(result.stopping),
        published=protocol == Protocol.PROTOCOL_PUBLISHED,
        class_count=len(classes),
    )


def measured_by(result: RoundResult, estimate: AccuracyEstimate) -> MeasuredAccuracy:
    """Return the figures of a model on the samples of its estimate."""
    by = {"evaluation": result.evaluation, "control": result.control, "stopping set": result.stopping}
    return by[estimate.measured_on]


def _counts(measured: MeasuredAccuracy) -> Accuracy:
    most_frequent = round(measured.baseline * measured.total)
    return Accuracy(correct=measured.correct, total=measured.total, most_frequent=most_frequent)


def _newest(run: RunStatus) -> AccuracyEstimate | None:
    return estimate_of(run.latest, run.spec.protocol, run.pool.classes)


def short_accuracy(run: RunStatus) -> str:
    """Format the newest accuracy alone, for tables."""
    found = _newest(run)
    return found.share.short if found else NONE


def state(run: RunStatus) -> str:
    """Return where a run stands, in a word."""
    return "deleted" if run.deleted else word(Phase.Name(run.phase))


def document(run: RunStatus) -> dict[str, Any]:
    """Return what programs read of a run: names of states and strategies as on the command line, times in UTC."""
    return {
        "run_id": run.run_id,
        "state": state(run),
        "archived": run.archived,
        "message": run.message,
        "progress": run.progress,
        "held_up": [hold_ups.document(each) for each in run.held_up],
        "dataset": run.spec.dataset.name,
        "strategy": word(Strategy.Name(run.spec.strategy)),
        "round": run.round,
        "planned_rounds": run.planned_rounds,
        "labels_paid": run.labels_paid,
        "label_budget": run.spec.label_budget,
        "labels_open": run.labels_open,
        "audit_labels": _audited(run),
        "auto_labels": run.auto_labels,
        "accuracy": _estimated(run),
        "cross_validated_agreement": _cross_validated(run),
        "continues": run.continues,
        "started_at": run.started_at.ToJsonString(),
        "changed_at": run.changed_at.ToJsonString(),
    }


COLUMNS = (
    "run_id",
    "state",
    "dataset",
    "strategy",
    "round",
    "planned_rounds",
    "labels_paid",
    "label_budget",
    "labels_open",
    "auto_labels",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "measured_on",
    "started_at",
    "changed_at",
    "message",
)


def row(run: RunStatus) -> dict[str, Any]:
    """Return the run's line in a CSV of :data:`COLUMNS`; an accuracy of which only a range is known is empty."""
    whole = document(run)
    estimate = whole["accuracy"] or {}
    shares = {"accuracy": "value", "accuracy_low": "low", "accuracy_high": "high", "measured_on": "measured_on"}
    return whole | {column: estimate.get(name) for column, name in shares.items()}


def _estimated(run: RunStatus) -> dict[str, Any] | None:
    """Return the estimate for the newest model; ``value`` is None where only a range is known."""
    found = _newest(run)
    if found is None:
        return None
    share, measured = found.share, measured_by(run.latest, found)
    return {
        "measured_on": found.measured_on,
        "name": found.name,
        "text": found.text,
        "short": share.short,
        "value": share.value,
        "low": share.low,
        "high": share.high,
        "correct": share.correct,
        "total": share.total,
        "baseline": measured.baseline,
        "balanced": measured.balanced,
    }


def _cross_validated(run: RunStatus) -> dict[str, int] | None:
    """Return how many labelled samples the newest model's folds predict; most were chosen for being hard."""
    counts = run.latest.stopping
    if run.spec.protocol == Protocol.PROTOCOL_PUBLISHED or not counts.total:
        return None
    return {"correct": counts.correct, "total": counts.total}


def accuracy(run: RunStatus) -> str:
    """Say what is known of the newest model's accuracy.

    If the classes of the samples that it was measured on are imbalanced, the majority baseline stands beside it.
    """
    found = _newest(run)
    return found.text if found else UNKNOWN


def labels(run: RunStatus) -> str:
    """Format the labels paid for within the budget, and the budget."""
    return f"{run.labels_paid - _audited(run)}/{run.spec.label_budget}"


def audit(run: RunStatus) -> str:
    """Format the audit labels, which are paid for beyond the budget, and the audit size."""
    return f"{_audited(run)}/{run.spec.guarantee.audit_size}" if run.spec.HasField("guarantee") else NONE


def auto_labels(run: RunStatus) -> str:
    """Format the auto-labels and their limit, which in a run with an audit is known only once that is complete."""
    if budget := run.spec.auto_label_budget:
        return f"{run.auto_labels}/{budget}"
    if run.HasField("certificate"):
        return f"{run.auto_labels}/{run.certificate.count}" if run.certificate.count else "0"
    return NONE


def paid(run: RunStatus) -> str:
    """Format all labels paid for, as part of a sentence."""
    audited = _audited(run)
    return f"{run.labels_paid - audited} labels" + (f" and {audited} to audit with" if audited else "")


def _audited(run: RunStatus) -> int:
    """Count the audit labels: while an audit is under way, the labels paid for beyond the budget."""
    return max(run.audit_labels, run.labels_paid - run.spec.label_budget)


def unfinished(each: UnfinishedImport) -> str:
    """Say how far an import has come that is under way or was cut short, and what to do."""
    of = f" of {each.events_expected}" if each.events_expected else ""
    again = "" if each.damaged else "import the file again to complete it, or "
    state = "is damaged" if each.damaged else "is under way or was cut short"
    clear = f"give it up with `labelloop run clear {each.run_id}`"
    return f"the import of run {each.run_id} {state}: {each.events}{of} events stand; {again}{clear}"
