"""Invariants of the log of a run, which must hold whatever faults its writers had. Pure.

Stricter than the readers of the log: they skip invalid events; here each event is reported that no service should have
written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from labelloop.domain.sample_outcomes import outcome_of
from labelloop.eventlog.subjects import subject_of
from labelloop.events.v1.events_pb2 import (
    AutoLabelsCertified,
    Event,
    LabelsRequested,
    ModelTrained,
    Purpose,
    SamplesAutoLabelled,
)

from oracle_svc.domain.resolution import AGREEMENT_SOURCE
from trainer_svc.domain.policy import (
    AutoLabel,
    Certify,
    Finish,
    Fit,
    LearnFeatures,
    RequestLabels,
    Step,
    Wait,
    next_step,
)
from trainer_svc.domain.run_state import RunState

_AT = datetime(2026, 1, 1, tzinfo=UTC)  # no invariant depends on the time
_ROUND_ZERO = {"run_started", "pool_published", "features_learned", "run_cancelled"}
_STEP_OF: dict[str, type[Step]] = {
    "features_learned": LearnFeatures,
    "auto_labels_certified": Certify,
    "labels_requested": RequestLabels,
    "samples_auto_labelled": AutoLabel,
    "model_trained": Fit,
    "run_finished": Finish,
}


def faults(events: Sequence[Event]) -> list[str]:
    """Return all violations in the whole log of one run, in its order; empty if there are none."""
    audit = Audit()
    return [fault for event in events for fault in audit.take(event)]


def end_faults(state: RunState) -> list[str]:
    """Return the violations in the final state of a run."""
    spec, asked = state.spec, {*state.run_log.taken}.difference(state.inheritance.sample_ids)
    paid = {example.sample_id for example in state.labelled if not example.source.startswith("inherited:")}
    found: list[str] = []
    if state.ended is None or state.ended.kind != "run_finished":
        return found
    if state.answers.batch:
        found.append("finished while a batch is open")
    revised = any(outcome.revision for outcome in state.answers.standing.values())
    if state.labels_paid < spec.label_budget and state.free_count and not spec.HasField("stopping"):
        found.append(f"finished with {state.labels_paid} labels paid of {spec.label_budget}")
    allowed = state.run_log.certificate.count if state.run_log.certificate else spec.auto_label_budget
    if state.run_log.auto_labels != allowed and state.free_count:
        found.append(f"finished with {state.run_log.auto_labels} auto-labels of {allowed}")
    chosen = state.labels_paid + state.run_log.auto_labels + state.samples_skipped
    if (chosen != len(asked) and not revised) or not paid <= asked:
        found.append("the samples chosen are not those of the training set")
    return found


class Audit:
    """Check a log event by event. ``paid`` are the samples that have a label, ``revised`` those with a revised outcome;
    ``state`` is None before ``run_started``."""

    def __init__(self) -> None:
        self.state: RunState | None = None
        self.paid: set[int] = set()
        self.revised: set[int] = set()
        self._subjects: set[str] = set()
        self._at_end: Step | None = None

    def take(self, event: Event) -> list[str]:
        """Return the violations of the next event, and apply it nevertheless, except an outcome that has a fault."""
        subject = subject_of(event)
        found = [f"{subject}: {fault}" for fault in self._faults(event, subject)]
        self._subjects.add(subject)
        if outcome := outcome_of(event):
            self.revised |= {outcome.sample_id} if outcome.revision else set()
            (self.paid.add if event.HasField("label_provided") else self.paid.discard)(outcome.sample_id)
        self._apply(event)
        return found

    def _apply(self, event: Event) -> None:
        if self.state is None:
            if event.HasField("run_started"):
                self.state = RunState.begin(event, _AT)
            return
        if outcome_of(event) and self.state.run_log.fault(event):
            return
        wanted = next_step(self.state)
        was_over = self.state.over
        self.state.apply(event, _AT)
        if self.state.over and not was_over:
            self._at_end = wanted

    def _faults(self, event: Event, subject: str) -> Iterator[str]:
        kind = event.WhichOneof("payload") or ""
        if subject in self._subjects:
            yield "stands already"
        if event.round and kind in _ROUND_ZERO:
            yield "belongs to round 0"
        if self.state is None:
            if kind != "run_started":
                yield "comes before run_started"
            return
        if event.run_id != self.state.run_id:
            yield f"belongs to another run than {self.state.run_id}"
        yield from self._order_faults(self.state, event, kind)

    def _order_faults(self, state: RunState, event: Event, kind: str) -> Iterator[str]:
        match kind:
            case "run_started":
                yield "the run has started already"
            case "pool_published":
                yield from _pool_faults(state, event)
            case "run_cancelled":
                pass  # the client that cancels may not know that the run ended
            case "run_failed":
                yield from _failure_faults(state, event)
            case "label_provided" | "sample_skipped" | "label_withdrawn":
                yield from _outcome_faults(state, event)
            case "answer_given":
                yield from _answer_faults(state, event)
            case _:
                yield from self._step_faults(state, event, kind)

    def _step_faults(self, state: RunState, event: Event, kind: str) -> Iterator[str]:
        # A step in progress when the run was ended may follow the end, once; readers ignore it.
        step = self._at_end if state.over else next_step(state)
        expected = _STEP_OF.get(kind)
        if step is None or expected is None or not isinstance(step, expected):
            yield f"comes where the run wants {step}"
            return
        round_ = 0 if kind in _ROUND_ZERO else state.round + (kind == "model_trained")
        if event.round != round_:
            yield f"belongs to round {round_}"
        if kind == "labels_requested":
            yield from _request_faults(state, event.labels_requested, step)
        elif kind == "samples_auto_labelled":
            yield from _auto_label_faults(state, event.samples_auto_labelled, step)
        elif kind == "auto_labels_certified" and not state.over:
            yield from _certificate_faults(state, event.auto_labels_certified)
        elif kind == "model_trained" and not state.over:
            yield from _model_faults(state, event.model_trained)


def _pool_faults(state: RunState, event: Event) -> Iterator[str]:
    if state.pool is not None:
        yield "the pool is published already"
    if not event.pool_published.pool_sha256:
        yield "the pool has no digest"
    if event.pool_published.sample_count <= len(state.run_log.taken):
        yield "the pool has nothing left to choose"


def _failure_faults(state: RunState, event: Event) -> Iterator[str]:
    if state.over:
        return  # the service that failed may not know that the run ended
    if state.pool is None:
        if event.round:
            yield "a run without a pool fails in a later round than 0"
    elif not event.round:
        yield "the run fails though its pool is published"
    elif event.round != state.round + 1:
        yield f"fails in round {event.round} where {state.round + 1} is next"
    elif isinstance(next_step(state), Wait):
        yield "fails where nothing is to be done"


def _choice_faults(state: RunState, sample_ids: Sequence[int], wanted: int) -> Iterator[str]:
    if len(sample_ids) != wanted:
        yield f"chooses {len(sample_ids)} samples where {wanted} are wanted"
    if len(set(sample_ids)) != len(sample_ids):
        yield "chooses a sample twice"
    if again := {*state.run_log.taken}.intersection(sample_ids):
        yield f"chooses samples {sorted(again)} again"
    if state.pool is not None and max(sample_ids, default=0) >= state.pool.sample_count:
        yield f"chooses sample {max(sample_ids)} of a pool of {state.pool.sample_count}"


def _request_faults(state: RunState, request: LabelsRequested, step: Step) -> Iterator[str]:
    assert isinstance(step, RequestLabels)
    yield from _choice_faults(state, request.sample_ids, step.count + step.control)
    if sum(purpose == Purpose.PURPOSE_CONTROL for purpose in request.purposes) != step.control:
        yield f"draws another number at random than {step.control}"
    if not {*state.run_log.taken}.union(request.sample_ids).issuperset(request.also_control):
        yield "counts samples as controls that nobody was asked for"
    if again := state.controls.intersection(request.also_control):
        yield f"counts samples {sorted(again)} as controls again"
    if (Purpose.PURPOSE_AUDIT in request.purposes) != step.audit:
        yield "audits where it should not, or does not where it should"
    if request.part != step.part:
        yield f"is request {request.part} of its round where {step.part} is wanted"
    if request.strategy != step.strategy:
        yield f"uses strategy {request.strategy} where {step.strategy} is wanted"
    told = len(request.sample_ids) if state.model_sha256 else 0
    known = bool(request.predicted or request.confidence)
    if known and not told:
        yield "predicts without a model"
    if known and {len(request.predicted), len(request.confidence)} != {told}:
        yield "its columns differ in length"


def _auto_label_faults(state: RunState, given: SamplesAutoLabelled, step: Step) -> Iterator[str]:
    assert isinstance(step, AutoLabel)
    yield from _choice_faults(state, given.sample_ids, step.count)
    if given.part != step.part:
        yield f"is part {given.part} of its auto-labels where {step.part} is wanted"
    if {len(given.classes), len(given.confidence)} != {len(given.sample_ids)}:
        yield "its columns differ in length"
    if list(given.confidence) != sorted(given.confidence, reverse=True):
        yield "the most confident are not first"
    yield from (fault for label in given.classes for fault in _class_faults(state, label))


def _certificate_faults(state: RunState, certificate: AutoLabelsCertified) -> Iterator[str]:
    there = (len(state.audit), state.audit_unlabelled)
    if (certificate.audited, certificate.unlabelled) != there:
        yield f"audits {certificate.audited} samples where there are {there[0]} with a label and {there[1]} without"


def _model_faults(state: RunState, model: ModelTrained) -> Iterator[str]:
    auto_labels = sum(example.auto_labelled for example in state.training)
    there = (len(state.training) - auto_labels, auto_labels)
    if (model.labels, model.auto_labels) != there:
        yield f"saw {model.labels} labels and {model.auto_labels} auto-labels where there are {there[0]} and {there[1]}"
    if not model.model_sha256:
        yield "the model has no digest"


def _outcome_faults(state: RunState, event: Event) -> Iterator[str]:
    outcome = outcome_of(event)
    assert outcome is not None
    if fault := state.answers.fault(event.round, outcome):
        yield fault
    if outcome.source == AGREEMENT_SOURCE and state.spec.queue.annotators <= 1:
        yield "is decided by agreement where one annotator is asked"
    yield from _class_faults(state, event.label_provided.label)


def _answer_faults(state: RunState, event: Event) -> Iterator[str]:
    given, several = event.answer_given, state.spec.queue.annotators > 1
    late = given.WhichOneof("answer") in ("late_label", "late_skip")
    if given.sample_id in state.run_log.gold and not event.round and not late:
        pass  # answered at any time, and nobody's label
    elif state.answers.rounds.get(given.sample_id) != event.round:
        yield f"round {event.round} did not ask for sample {given.sample_id}"
    elif not late and not several:
        yield "one annotator is asked, and their answer is the label"
    elif late and given.sample_id not in state.answers.standing:
        yield "comes late for a sample that nobody has answered"
    yield from _class_faults(state, given.late_label if late else given.label)


def _class_faults(state: RunState, label: int) -> Iterator[str]:
    if state.pool is not None and label >= len(state.pool.classes):
        yield f"class {label} of {len(state.pool.classes)}"
