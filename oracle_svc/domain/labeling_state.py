"""Fold a run's events into its labeling state and derive the oracle's next action. No I/O."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from labelloop.domain.names import normalised
from labelloop.domain.run_log import RunLog
from labelloop.domain.run_view import RunView
from labelloop.domain.sample_outcomes import Outcome, outcome_of
from labelloop.events.v1.events_pb2 import (
    AnnotatorsChanged,
    AnswerGiven,
    Event,
    LabelSource,
    LabelsRequested,
    LabelWithdrawn,
    SampleSkipped,
    SkipKind,
)
from labelloop.oracle.v1.oracle_pb2 import LabelResult, Prediction

from oracle_svc.domain.annotator_names import AnnotatorNames
from oracle_svc.domain.answer_history import standing
from oracle_svc.domain.progress import Progress

_LATEST = datetime.max.replace(tzinfo=UTC)
_OF_NOBODY = {SkipKind.SKIP_KIND_EXPIRED, SkipKind.SKIP_KIND_CANCELLED}  # skips that are no annotator's result
_MORE_AT_MOST = 2  # annotators beyond the first ones, unless the spec sets a maximum


ResultKey = tuple[int, int | None]
"""A sample and the slot that holds a result; None for the outcome of a sample for which one annotator is asked."""


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
class Withdraw:
    """Withdraw results of annotators who were removed.

    Attributes:
        results: Who said so, by result.
    """

    results: Mapping[ResultKey, str]


@dataclass(frozen=True)
class Expire:
    """End the wait for samples whose deadline has passed, with the results received so far."""

    sample_ids: tuple[int, ...]


@dataclass(frozen=True)
class Wait:
    """Do nothing: the run needs no action, or annotators have yet to respond."""


Action = PublishPool | AnswerLabels | Withdraw | Resolve | Expire | Wait


def is_late(given: AnswerGiven) -> bool:
    """Return whether an answer came after its sample was settled, so that it decides nothing."""
    return given.WhichOneof("answer") in ("late_label", "late_skip")


@dataclass
class LabelingState(RunView):
    """The oracle's projection of one run.

    Attributes:
        given: Each annotator's newest result for gold samples and, if several are asked, others; by sample and slot. Of
            a sample, the one recorded last is last.
        unresolved: Samples whose new results may change the current outcome, with the running number of the newest.
        disputed: How many annotators are asked in all, by sample; 0 if no more than at first.
        history: Every result in ``given`` and those that it replaced, in the order of the log.
        numbers: Running numbers of each sample's results, from 1 in that order, ascending.
        late: Answers that came after their sample was settled and contradicted its outcome, in the order of the log, by
            sample. They decide nothing.
        known: Names of the annotators who have answered anything.
        heard: Newest outcome by sample and annotator. If one annotator is asked, it is their annotation result.
        names: Names of annotators in the log.
        to_withdraw: Results of annotators who were removed that are still to be withdrawn, and who said so.
        asked_at: Time of the newest request for labels.
        progress: Progress to show to people.
        accounts: The annotators' names, by their tool's ids.
        superseded: Who gave results that a later one of the same annotator replaced: annotator and source by sample
            and ``source_event_id``.
        refusal: Why the annotation tool rejects the run's requests; empty while it accepts them. Not from the log.
        refused_since: Since when it does, in seconds since 1970.
        notices: What somebody has to mend in the tool, in sentences. Not from the log.
        noticed_since: Since when there is anything, in seconds since 1970.
        held: Withdrawals from the tool that wait for a person to accept them. Not from the log.
        held_since: Since when there are any, in seconds since 1970.
    """

    run_id: str
    given: dict[int, dict[int, AnswerGiven]] = field(default_factory=dict)
    unresolved: dict[int, int] = field(default_factory=dict)
    disputed: dict[int, int] = field(default_factory=dict)
    history: list[AnswerGiven] = field(default_factory=list)
    numbers: dict[int, list[int]] = field(default_factory=dict)
    late: dict[int, list[AnswerGiven]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    heard: dict[int, dict[str, Outcome]] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)
    predictions: dict[int, Prediction] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    to_withdraw: dict[ResultKey, str] = field(default_factory=dict)
    asked_at: datetime | None = None
    accounts: AnnotatorNames = field(default_factory=AnnotatorNames)
    superseded: dict[int, dict[str, tuple[str, str]]] = field(default_factory=dict)
    refusal: str = ""
    refused_since: float = 0.0
    notices: Sequence[str] = ()
    noticed_since: float = 0.0
    held: Sequence[LabelResult] = ()
    held_since: float = 0.0

    def __post_init__(self) -> None:
        self.progress = Progress(self.run_log)

    @classmethod
    def begin(cls, event: Event, at: datetime) -> LabelingState:
        return cls(RunLog(event.run_started), event.run_id)

    def apply(self, event: Event, at: datetime) -> None:
        """Apply the next event of this run. Once it has ended, only sample outcomes still under way are applied."""
        before = self.run_log.annotators.identity_of(event.annotators_changed.alias.name)
        if not self.run_log.apply(event):
            return
        self.progress.apply(event, at)
        if outcome := outcome_of(event):
            heard = self.heard.setdefault(outcome.sample_id, {})
            self._note_annotator(outcome, heard.get(outcome.annotator))
            heard[outcome.annotator] = outcome
            self.known.update(filter(None, [outcome.annotator]))
            self.names.add(outcome.annotator)
            self._note_settled(outcome)
            self._note_removed((outcome.sample_id, None))
        elif event.HasField("labels_requested"):
            self.asked_at = at
            self._ask(event.labels_requested)
        elif event.HasField("answer_given"):
            self._take_given(event.answer_given)
        elif event.HasField("annotators_changed"):
            self._change_annotators(event.annotators_changed, before)

    def _ask(self, request: LabelsRequested) -> None:
        self.places.update((sample_id, i) for i, sample_id in enumerate(request.sample_ids))
        for sample_id, label, confidence in zip(
            request.sample_ids, request.predicted, request.confidence, strict=False
        ):
            self.predictions[sample_id] = Prediction(label=label, confidence=confidence, model_sha256=self.model_sha256)

    def _take_given(self, given: AnswerGiven) -> None:
        self.known.update(filter(None, [given.annotator]))
        if is_late(given):
            self.accounts.note(given.annotator, given.annotator_id)
            self.late.setdefault(given.sample_id, []).append(given)
            return
        slots = self.given.setdefault(given.sample_id, {})
        if given.slot in slots and slots[given.slot].revision >= given.revision:
            return
        self._note_annotator(given, slots.pop(given.slot, None))
        slots[given.slot] = given
        self.history.append(given)
        self.numbers.setdefault(given.sample_id, []).append(len(self.history))
        self.names.add(given.annotator)
        self._note_removed((given.sample_id, given.slot))
        if given.sample_id not in self.gold:
            self.unresolved[given.sample_id] = len(self.history)

    def _note_settled(self, outcome: Outcome) -> None:
        """Note whether an outcome takes all results of its sample into account: it need not be decided again then.

        In runs of earlier releases, outcomes do not say so, and every start decides all samples again.
        """
        newest = self.newest_answer(outcome.sample_id)
        if not self.resolution_version or not newest:
            return
        if outcome.answers_heard >= newest:
            self.unresolved.pop(outcome.sample_id, None)
        else:
            self.unresolved[outcome.sample_id] = newest

    def _change_annotators(self, changed: AnnotatorsChanged, before: str) -> None:
        """Reopen what a change may decide otherwise. ``before`` is the identity that the name in an alias had."""
        if changed.HasField("removal"):
            for key in [*self._result_keys()]:
                self._note_removed(key)
            return
        if changed.HasField("restored"):
            return
        people = {before, self.run_log.annotators.identity_of(changed.alias.name)}
        for sample_id, slots in self.given.items():
            theirs = sum(self.identity_of(given.annotator) in people for given in slots.values())
            if theirs > 1 and sample_id not in self.gold:
                self.unresolved[sample_id] = self.newest_answer(sample_id)

    def _result_keys(self) -> Iterator[ResultKey]:
        yield from ((sample_id, slot) for sample_id, slots in self.given.items() for slot in slots)
        yield from ((sample_id, None) for sample_id in self.answers.standing)

    def _note_removed(self, key: ResultKey) -> None:
        """Note whether a result is to be withdrawn because its annotator was removed."""
        self.to_withdraw.pop(key, None)
        sample_id, slot = key
        result = self.answers.standing.get(sample_id) if slot is None else self.given[sample_id][slot]
        if (
            result is None
            or isinstance(result, LabelWithdrawn)
            or (isinstance(result, AnswerGiven) and result.withdrawn)
        ):
            return
        if isinstance(result, SampleSkipped) and result.kind in _OF_NOBODY:
            return
        removal = self.run_log.annotators.removal_of(result.annotator)
        if removal and removal.withdraw:
            self.to_withdraw[key] = removal.by

    def identity_of(self, annotator: str) -> str:
        """Return the name that stands for the person whom a result or a request names ``annotator``."""
        return self.run_log.annotators.identity_of(self.name_in_log(annotator))

    def names_of(self, annotator: str) -> set[str]:
        """Return all names of the person with that name."""
        return self.run_log.annotators.names_of(self.name_in_log(annotator))

    def name_in_log(self, annotator: str, annotator_id: str = "") -> str:
        """Return a name as it is recorded: as it came if it is in the log already, else normalised.

        An account of a tool, which ``annotator_id`` tells, keeps the name that the log has for it, and is not recorded
        under that of another.
        """
        name = annotator if annotator in self.names else normalised(annotator)
        return self.accounts.name_of(annotator_id, name) if annotator_id else name

    def slot_of(self, sample_id: int, annotator: str) -> int | None:
        """Return the slot with a person's newest result for a sample, withdrawn or not; None if there is none."""
        slots, names = self.given.get(sample_id, {}), self.names_of(annotator)
        own = [slot for slot, given in slots.items() if given.annotator in names]
        return max(own, key=lambda slot: slots[slot].revision, default=None)  # the first of equal ones

    def heard_from(self, sample_id: int, annotator: str) -> Outcome | None:
        """Return a person's newest result for a sample for which one annotator is asked; None if there is none."""
        words = self.heard.get(sample_id, {})
        own = [words[name] for name in self.names_of(annotator) if name in words]
        return max(own, key=lambda outcome: outcome.answer_revision, default=None)

    def _note_annotator(self, result: Outcome | AnswerGiven, before: Outcome | AnswerGiven | None) -> None:
        self.accounts.note(result.annotator, result.annotator_id)
        if before and before.source_event_id not in ("", result.source_event_id):
            given = self.superseded.setdefault(before.sample_id, {})
            given[before.source_event_id] = before.annotator, before.source

    def mark_resolved(self, answered: Mapping[int, int]) -> None:
        """Mark samples as resolved, except those with a result newer than the running number in ``answered``."""
        for sample_id, heard in answered.items():
            if self.unresolved.get(sample_id) == heard:
                del self.unresolved[sample_id]

    def refuse(self, why: str) -> None:
        """Note why the annotation tool rejects the run's requests; empty if it accepts them."""
        if not self.refusal:
            self.refused_since = time.time()
        self.refusal = why

    def notice(self, notices: Sequence[str]) -> None:
        """Note what somebody has to mend in the tool, in place of what was noted so far."""
        if not self.notices:
            self.noticed_since = time.time()
        self.notices = notices

    def hold(self, withdrawals: Sequence[LabelResult]) -> None:
        """Keep withdrawals until a person accepts them, in place of those kept so far."""
        if not self.held:
            self.held_since = time.time()
        self.held = withdrawals

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
    def resolution_version(self) -> int:
        """Version of the rules by which several results become a label."""
        return self.spec.queue.resolution_version

    def newest_answer(self, sample_id: int) -> int:
        """Return the running number of a sample's newest result; 0 if there is none."""
        return self.numbers[sample_id][-1] if sample_id in self.numbers else 0

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
        """Return several annotators' current results for a sample in slot order, without withdrawn ones.

        Of a person with several names it is one result: that of the highest revision, the first recorded of equal ones,
        which is the one that counts if the names are declared to be one person's before they answer.
        """
        return standing(self.given.get(sample_id, {}), self.run_log.annotators)


def next_action(labeling: LabelingState, now: datetime) -> Action:
    """Return the one action to take now."""
    if labeling.over:
        return Wait()
    if labeling.pool is None:
        return PublishPool()
    if labeling.open and not labeling.for_people:
        return AnswerLabels(labeling.answers.rounds[next(iter(labeling.open))], tuple(labeling.open))
    if labeling.to_withdraw:
        return Withdraw(dict(labeling.to_withdraw))
    if labeling.unresolved:
        return Resolve(dict(labeling.unresolved))
    if labeling.deadline and labeling.deadline <= now:
        return Expire(tuple(labeling.open))
    return Wait()
