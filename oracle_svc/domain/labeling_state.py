"""Fold a run's events into its labeling state and derive the oracle's next action. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from labelloop.domain.run_log import RunLog
from labelloop.domain.run_view import RunView
from labelloop.domain.sample_outcomes import Outcome, outcome_of
from labelloop.events.v1.events_pb2 import (
    AnswerGiven,
    Event,
    LabelSource,
    LabelsRequested,
)
from labelloop.oracle.v1.oracle_pb2 import LabelResult, Prediction

from oracle_svc.domain.annotator_names import AnnotatorNames
from oracle_svc.domain.progress import Progress

_LATEST = datetime.max.replace(tzinfo=UTC)
_MORE_AT_MOST = 2  # annotators beyond the first ones, unless the spec sets a maximum


@dataclass(frozen=True)
class PublishPool:
    """Publish the pool to the artifact store, for scorers to read."""


@dataclass(frozen=True)
class AnswerLabels:
    """Look up these samples' labels in the dataset."""

    round: int
    sample_ids: tuple[int, ...]


@dataclass(frozen=True)
class Resolve:
    """Combine the results of several annotators.

    Attributes:
        answered: Running number of each sample's newest result, by sample.
    """

    answered: Mapping[int, int]


@dataclass(frozen=True)
class Expire:
    """End the wait for samples whose deadline has passed, with the results received so far."""

    sample_ids: tuple[int, ...]


@dataclass(frozen=True)
class Wait:
    """Do nothing: the run needs no action, or annotators have yet to respond."""


Action = PublishPool | AnswerLabels | Resolve | Expire | Wait


@dataclass
class LabelingState(RunView):
    """The oracle's projection of one run.

    Attributes:
        given: Each annotator's newest result for gold samples and, if several are asked, others; by sample and slot.
        unresolved: Samples whose new results may change the current outcome, with the running number of the newest.
        disputed: How many annotators are asked in all, by sample; 0 if no more than at first.
        heard: Newest outcome by sample and annotator. If one annotator is asked, it is their annotation result.
        asked_at: Time of the newest request for labels.
        progress: Progress to show to people.
        names: The annotators' names, by their tool's ids.
        superseded: Who gave results that a later one of the same annotator replaced: annotator and source by sample
            and ``source_event_id``.
        refusal: Why the annotation tool rejects the run's requests; empty while it accepts them. Not from the log.
        notices: What somebody has to mend in the tool, in sentences. Not from the log.
        held: Withdrawals from the tool that wait for a person to accept them. Not from the log.
    """

    run_id: str
    given: dict[int, dict[int, AnswerGiven]] = field(default_factory=dict)
    unresolved: dict[int, int] = field(default_factory=dict)
    disputed: dict[int, int] = field(default_factory=dict)
    heard: dict[int, dict[str, Outcome]] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)
    predictions: dict[int, Prediction] = field(default_factory=dict)
    asked_at: datetime | None = None
    names: AnnotatorNames = field(default_factory=AnnotatorNames)
    superseded: dict[int, dict[str, tuple[str, str]]] = field(default_factory=dict)
    refusal: str = ""
    notices: Sequence[str] = ()
    held: Sequence[LabelResult] = ()
    _heard: int = 0

    def __post_init__(self) -> None:
        self.progress = Progress(self.run_log)

    @classmethod
    def begin(cls, event: Event, at: datetime) -> LabelingState:
        return cls(RunLog(event.run_started), event.run_id)

    def apply(self, event: Event, at: datetime) -> None:
        """Apply the next event of this run. Once it has ended, only sample outcomes still under way are applied."""
        if not self.run_log.apply(event):
            return
        self.progress.apply(event, at)
        if outcome := outcome_of(event):
            heard = self.heard.setdefault(outcome.sample_id, {})
            self._note_annotator(outcome, heard.get(outcome.annotator))
            heard[outcome.annotator] = outcome
        elif event.HasField("labels_requested"):
            self.asked_at = at
            self._ask(event.labels_requested)
        elif event.HasField("answer_given"):
            self._take_given(event.answer_given)

    def _ask(self, request: LabelsRequested) -> None:
        self.places.update((sample_id, i) for i, sample_id in enumerate(request.sample_ids))
        for sample_id, label, confidence in zip(
            request.sample_ids, request.predicted, request.confidence, strict=False
        ):
            self.predictions[sample_id] = Prediction(label=label, confidence=confidence, model_sha256=self.model_sha256)

    def _take_given(self, given: AnswerGiven) -> None:
        slots = self.given.setdefault(given.sample_id, {})
        if given.slot in slots and slots[given.slot].revision >= given.revision:
            return
        self._note_annotator(given, slots.get(given.slot))
        slots[given.slot] = given
        if given.sample_id not in self.gold:
            self.unresolved[given.sample_id] = self._heard = self._heard + 1

    def _note_annotator(self, result: Outcome | AnswerGiven, before: Outcome | AnswerGiven | None) -> None:
        self.names.note(result.annotator, result.annotator_id)
        if before and before.source_event_id not in ("", result.source_event_id):
            given = self.superseded.setdefault(before.sample_id, {})
            given[before.source_event_id] = before.annotator, before.source

    def mark_resolved(self, answered: Mapping[int, int]) -> None:
        """Mark samples as resolved, except those with a result newer than the running number in ``answered``."""
        for sample_id, heard in answered.items():
            if self.unresolved.get(sample_id) == heard:
                del self.unresolved[sample_id]

    @property
    def open(self) -> dict[int, None]:
        """Samples that wait for a label; none once the run has ended."""
        return self.run_log.open

    @property
    def gold(self) -> dict[int, int]:
        """The class of each gold sample."""
        return self.run_log.gold

    @property
    def for_people(self) -> bool:
        return self.spec.label_source == LabelSource.LABEL_SOURCE_QUEUE

    @property
    def annotators(self) -> int:
        """How many annotators are asked for each sample at first."""
        return self.spec.queue.annotators or 1

    @property
    def annotators_max(self) -> int:
        """How many annotators are asked at most for a sample whose results differ."""
        return self.spec.queue.annotators_max or self.annotators + _MORE_AT_MOST

    @property
    def waits_since(self) -> datetime | None:
        """When the open batch was requested; None if no sample is open."""
        return self.asked_at if self.open else None

    @property
    def deadline(self) -> datetime | None:
        """When the open samples expire; None if they never do or none is open."""
        if not (self.waits_since and self.spec.queue.deadline_s):
            return None
        wait = timedelta(seconds=self.spec.queue.deadline_s)
        return self.waits_since + wait if wait < _LATEST - self.waits_since else None

    def standing_answers(self, sample_id: int) -> list[AnswerGiven]:
        """Return several annotators' current results for a sample in slot order, without withdrawn ones."""
        slots = self.given.get(sample_id, {})
        return [slots[slot] for slot in sorted(slots) if not slots[slot].withdrawn]


def next_action(labeling: LabelingState, now: datetime) -> Action:
    """Return the one action to take now."""
    if labeling.over:
        return Wait()
    if labeling.pool is None:
        return PublishPool()
    if labeling.open and not labeling.for_people:
        return AnswerLabels(labeling.answers.rounds[next(iter(labeling.open))], tuple(labeling.open))
    if labeling.unresolved:
        return Resolve(dict(labeling.unresolved))
    if labeling.deadline and labeling.deadline <= now:
        return Expire(tuple(labeling.open))
    return Wait()
