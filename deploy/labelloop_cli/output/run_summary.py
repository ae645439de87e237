"""Format a run's accuracy and label counts for display. Pure functions."""

from __future__ import annotations

from typing import Any

from labelloop.domain.statistics import GUESSING, tells_little
from labelloop.events.v1.events_pb2 import Protocol
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1.trainer_pb2 import MeasuredAccuracy, Phase, RoundResult, RunStatus, UnfinishedImport

from labelloop_cli.output import hold_ups
from labelloop_cli.run_options import word

NONE = "–"


def judged(result: RoundResult) -> MeasuredAccuracy | None:
    """Return a model's accuracy on the evaluation set or, without one, on the control samples; None without both."""
    if result.HasField("evaluation"):
        return result.evaluation
    return result.control if result.HasField("control") else None


def judged_by(result: RoundResult, protocol: Protocol.ValueType) -> tuple[MeasuredAccuracy, str] | None:
    """Return a model's accuracy and the name of the samples it was measured on; None if there are none.

    The accuracy that decided when to stop is the last resort: in cross-validation, it is measured on labelled samples,
    which were chosen for being hard.
    """
    if accuracy := judged(result):
        return accuracy, "evaluation" if result.HasField("evaluation") else "control"
    if not result.HasField("stopping"):
        return None
    return result.stopping, "stopping set" if protocol == Protocol.PROTOCOL_PUBLISHED else "cross-validated"


def short_accuracy(run: RunStatus) -> str:
    """Format the newest accuracy alone, for tables."""
    found = judged_by(run.latest, run.spec.protocol) if run.HasField("latest") else None
    return f"{found[0].value:.4f}" if found else NONE


def state(run: RunStatus) -> str:
    """Return where a run stands, in a word."""
    return "deleted" if run.deleted else word(Phase.Name(run.phase))


def document(run: RunStatus) -> dict[str, Any]:
    """Return what programs read of a run: names of states and strategies as on the command line, times in UTC."""
    found = judged_by(run.latest, run.spec.protocol) if run.HasField("latest") else None
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
        "accuracy": _measured(*found) if found else None,
        "continues": run.continues,
        "started_at": run.started_at.ToJsonString(),
        "changed_at": run.changed_at.ToJsonString(),
    }


def _measured(accuracy: MeasuredAccuracy, on: str) -> dict[str, Any]:
    names = ("value", "low", "high", "correct", "total", "baseline", "balanced")
    return {"measured_on": on, **{name: getattr(accuracy, name) for name in names}}


def accuracy(run: RunStatus) -> str:
    """Format the newest accuracy with its interval and the samples it was measured on.

    If the classes of these samples are imbalanced, the majority baseline and the balanced accuracy stand beside it.
    """
    found = judged_by(run.latest, run.spec.protocol) if run.HasField("latest") else None
    if not found:
        return NONE
    measured, on = found
    interval = f"{measured.low:.3f} to {measured.high:.3f}, {on}, n={measured.total}"
    return f"{measured.value:.4f} ({_beside(measured, run)}{interval})"


def _beside(measured: MeasuredAccuracy, run: RunStatus) -> str:
    if not tells_little(measured.baseline, len(run.pool.classes)):
        return ""
    return f"{measured.baseline:.4f} {GUESSING}, balanced {measured.balanced:.4f}; "


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
