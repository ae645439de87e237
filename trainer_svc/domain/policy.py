"""Decide the next step of a run from its state. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from labelloop.scorer.v1.scorer_pb2 import Strategy

from trainer_svc.domain.run_state import AUTO_LABELS_AT_ONCE, RunState
from trainer_svc.domain.stopping import reason_to_stop


@dataclass(frozen=True)
class LearnFeatures:
    """Have a scorer learn the feature graph, or check the given one."""


@dataclass(frozen=True)
class RequestLabels:
    """Rank the pool and request labels.

    Attributes:
        count: How many of the first samples of the ranking to request.
        strategy: Strategy to rank by.
        part: Index of the request within its round.
        control: Number of further samples to draw at random.
        audit: Whether the request is for an audit, so that all samples are drawn at random.
    """

    count: int
    strategy: Strategy.ValueType
    part: int = 0
    control: int = 0
    audit: bool = False


@dataclass(frozen=True)
class Certify:
    """Determine from the audit which auto-labels meet the target accuracy."""


@dataclass(frozen=True)
class AutoLabel:
    """Let the model label the samples it is most confident about.

    Attributes:
        count: Number of samples to label.
        part: Index among the auto-label events that an audit allows; 0 without an audit.
    """

    count: int
    part: int = 0


@dataclass(frozen=True)
class Fit:
    """Fit a model on the training set and export it."""


@dataclass(frozen=True)
class Finish:
    """Finish the run, because nothing is left to do."""

    reason: str


@dataclass(frozen=True)
class Wait:
    """Do nothing: the next event comes from outside, or the run is over."""


ToTake = LearnFeatures | RequestLabels | Certify | AutoLabel | Fit | Finish


Step = ToTake | Wait


def next_step(state: RunState) -> Step:
    """Return the next step of a run."""
    spec = state.spec
    if state.ended or state.pool is None or state.answers.batch:
        return Wait()
    if state.needs_features and state.run_log.features is None:
        return LearnFeatures()
    if state.run_log.audited:
        return _after_audit(state)
    if state.begins_anew and not state.models:
        return Fit()
    strategy = spec.strategy if state.model_sha256 else spec.first_strategy
    if replaceable := min(state.run_log.skipped, state.free_count):
        return _labels(state, strategy, replaceable)
    if state.run_log.news and state.training:
        return Fit()
    # A withdrawn label may return after its replacement was labelled too, so that more are paid for than budgeted.
    labels_left = max(0, spec.label_budget - state.labels_paid)
    reason = "the budget is spent"
    models = [model.event for model in state.models]
    if labels_left and (stop := reason_to_stop(spec.stopping, models, state.planned_rounds)):
        reason, labels_left = stop, 0
    if labels_left and state.free_count:
        size = spec.batch_size if state.models else state.first_batch
        return _labels(state, strategy, min(size, labels_left, state.free_count))
    if spec.HasField("guarantee") and state.models and state.free_count:
        count = min(spec.guarantee.audit_size, state.free_count)
        return RequestLabels(count, Strategy.STRATEGY_RANDOM, state.run_log.parts, audit=True)
    auto_labels_left = spec.auto_label_budget - state.run_log.auto_labels
    if (labels_left or auto_labels_left) and not state.free_count:  # skipped samples used up the pool
        return Finish("no sample of the pool is left to ask for")
    if auto_labels_left:
        return AutoLabel(min(spec.auto_label_batch_size, auto_labels_left, state.free_count))
    return Finish(reason)


def _labels(state: RunState, strategy: Strategy.ValueType, count: int) -> RequestLabels:
    """Request ``count`` labels, enough of them controls to keep the overall share at ``control_percent``.

    No controls are added if the strategy itself draws at random.
    """
    drawn_anyway = state.spec.strategy == Strategy.STRATEGY_RANDOM
    due = (state.drawn + count) * state.spec.control_percent // 100 - state.drawn_control
    control = 0 if drawn_anyway else min(max(0, due), count)
    return RequestLabels(count - control, strategy, state.run_log.parts, control)


def _after_audit(state: RunState) -> Step:
    """Return the next step once an audit was requested.

    Audited samples are not trained on: the certificate is about the model that the audit judged.
    """
    if replaceable := min(state.run_log.skipped, state.free_count):
        return RequestLabels(replaceable, Strategy.STRATEGY_RANDOM, state.run_log.parts, audit=True)
    if state.run_log.certificate is None:
        return Certify()
    if left := min(state.run_log.certificate.count - len(state.certified), state.free_count):
        return AutoLabel(min(left, AUTO_LABELS_AT_ONCE), state.run_log.auto_parts)
    labelled, rest = len(state.certified), state.free_count
    return Finish(f"{labelled} samples are auto-labelled, as the audit allows; {rest} are left to people")
