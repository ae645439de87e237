"""What a run wants of the oracle: a fold over its events, and the one next duty. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from labelloop.events.v1.events_pb2 import (
    AnswerGiven,
    Event,
    LabelSource,
    LabelsRequested,
    PoolPublished,
    RunSpec,
)
from labelloop.oracle.v1.oracle_pb2 import Prediction
from labelloop.wire.answers import Answers, Outcome, outcome_of

from oracle_svc.web.progress import Progress

_LATEST = datetime.max.replace(tzinfo=UTC)
_MORE_AT_MOST = 2  # annotators beyond the first ones, where the spec does not say


@dataclass(frozen=True)
class PublishPool:
    """Put the pool where scorers find it."""


@dataclass(frozen=True)
class AnswerLabels:
    """Look these samples up in the dataset."""

    round: int
    sample_ids: tuple[int, ...]


@dataclass(frozen=True)
class Settle:
    """Make one label of several answers, for samples that so many answers were heard of."""

    answered: Mapping[int, int]


@dataclass(frozen=True)
class Expire:
    """The deadline is over: go on with what was answered."""

    sample_ids: tuple[int, ...]


@dataclass(frozen=True)
class Wait:
    """Nothing is wanted, or people are to answer."""


Duty = PublishPool | AnswerLabels | Settle | Expire | Wait


@dataclass
class Desk:
    """``answers`` holds what was asked for and what holds of it; ``given`` what each of several annotators said, by
    sample and slot; ``heard`` what each said of a sample where one is asked. ``unsettled`` are samples whose answers
    may make another label than stands; ``disputed`` says of those whose answers differ how many annotators are asked,
    the first ones among them; 0 of others. The newest request is of ``asked_at``, the newest event of ``round``;
    ``progress`` is for people. ``refusal`` is no part of the log: why the tool that people label in does not take what
    the run asks, empty while it does."""

    run_id: str
    spec: RunSpec
    pool: PoolPublished | None = None
    answers: Answers = field(default_factory=Answers)
    given: dict[int, dict[int, AnswerGiven]] = field(default_factory=dict)
    unsettled: dict[int, int] = field(default_factory=dict)
    disputed: dict[int, int] = field(default_factory=dict)
    heard: dict[int, dict[str, Outcome]] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)
    predictions: dict[int, Prediction] = field(default_factory=dict)
    model_sha256: str = ""
    asked_at: datetime | None = None
    round: int = 0
    over: bool = False
    progress: Progress = field(default_factory=lambda: Progress(RunSpec()))
    refusal: str = ""
    _heard: int = 0

    def __post_init__(self) -> None:
        self.gold = {sample.sample_id: sample.label for sample in self.spec.queue.gold}

    @classmethod
    def begin(cls, event: Event, at: datetime) -> Desk:
        inherited = event.run_started.inheritance.model_sha256
        progress = Progress.begin(event, at)
        return cls(event.run_id, event.run_started.spec, model_sha256=inherited, progress=progress)

    def apply(self, event: Event, at: datetime) -> None:
        """Take in the next event of this run. After the end only labels that were still under way count."""
        self.progress.apply(event, at)
        outcome = outcome_of(event)
        if self.over and outcome is None:
            return
        self.round = max(self.round, event.round)
        if outcome:
            self._take_outcome(outcome)
            return
        match event.WhichOneof("payload"):
            case "pool_published":
                self.pool = event.pool_published
            case "labels_requested":
                self.asked_at = at
                self._ask(event.round, event.labels_requested)
            case "answer_given":
                self._take_given(event.answer_given)
            case "model_trained":
                self.model_sha256 = event.model_trained.model_sha256
            case "run_finished" | "run_cancelled" | "run_failed":
                self.over = True
                self.answers.ask(self.round, ())

    def _ask(self, round_: int, request: LabelsRequested) -> None:
        self.answers.ask(round_, request.sample_ids)
        self.places.update((sample_id, i) for i, sample_id in enumerate(request.sample_ids))
        for sample_id, label, confidence in zip(
            request.sample_ids, request.predicted, request.confidence, strict=False
        ):
            self.predictions[sample_id] = Prediction(label=label, confidence=confidence, model_sha256=self.model_sha256)

    def _take_outcome(self, outcome: Outcome) -> None:
        self.answers.take(outcome)
        self.heard.setdefault(outcome.sample_id, {})[outcome.annotator] = outcome
        if self.answers.whole:
            self.answers.close()

    def _take_given(self, given: AnswerGiven) -> None:
        slots = self.given.setdefault(given.sample_id, {})
        if given.slot in slots and slots[given.slot].revision >= given.revision:
            return
        slots[given.slot] = given
        if given.sample_id not in self.gold:
            self.unsettled[given.sample_id] = self._heard = self._heard + 1

    def mark_settled(self, answered: Mapping[int, int]) -> None:
        """What these answers came to holds; what was said since waits."""
        for sample_id, heard in answered.items():
            if self.unsettled.get(sample_id) == heard:
                del self.unsettled[sample_id]

    @property
    def open(self) -> dict[int, None]:
        """Samples that wait for a label, in the order asked for."""
        return self.answers.open

    @property
    def for_people(self) -> bool:
        return self.spec.label_source == LabelSource.LABEL_SOURCE_QUEUE

    @property
    def annotators(self) -> int:
        """How many are asked for each sample."""
        return self.spec.queue.annotators or 1

    @property
    def annotators_max(self) -> int:
        """How many are asked for a sample that they differ on."""
        return self.spec.queue.annotators_max or self.annotators + _MORE_AT_MOST

    @property
    def waits_since(self) -> datetime | None:
        """When the batch that is not whole was asked for; None where there is none."""
        return self.asked_at if self.open else None

    @property
    def deadline(self) -> datetime | None:
        """When it is too late to answer what is open; None where it never is, or nothing is open."""
        if not (self.waits_since and self.spec.queue.deadline_s):
            return None
        wait = timedelta(seconds=self.spec.queue.deadline_s)
        return self.waits_since + wait if wait < _LATEST - self.waits_since else None

    def standing_answers(self, sample_id: int) -> list[AnswerGiven]:
        """What several annotators say of a sample now, by slot."""
        slots = self.given.get(sample_id, {})
        return [slots[slot] for slot in sorted(slots) if not slots[slot].withdrawn]


def next_duty(desk: Desk, now: datetime) -> Duty:
    """The one thing to do now."""
    if desk.over:
        return Wait()
    if desk.pool is None:
        return PublishPool()
    if desk.open and not desk.for_people:
        return AnswerLabels(desk.answers.rounds[next(iter(desk.open))], tuple(desk.open))
    if desk.unsettled:
        return Settle(dict(desk.unsettled))
    if desk.deadline and desk.deadline <= now:
        return Expire(tuple(desk.open))
    return Wait()
