"""Parts with one deliberate defect each, which the suite must detect."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import count

from labelloop.eventlog.log import Recorded
from labelloop.eventlog.subjects import subject_of
from labelloop.events.v1.events_pb2 import Event
from labelloop.oracle.v1.oracle_pb2 import SubmitLabelsRequest, SubmitLabelsResponse

from oracle_svc.domain.labeling_state import LabelingState
from tests.chaos.members import Oracle, Trainer
from tests.chaos.simulation import Log, Parts, World
from trainer_svc.domain.examples import Example
from trainer_svc.domain.run_state import RunState


class LogThatTakesSecondWrites(Log):
    def write(self, event: Event) -> Recorded:
        return self.add(subject_of(event), event)


class LogThatLosesLabels(Log):
    """Acknowledges some labels without storing them."""

    def write(self, event: Event) -> Recorded:
        if event.label_provided.sample_id % 10 == 3:
            return Recorded(event, len(self.events))
        return super().write(event)


class LogThatLosesContradictions(Log):
    """Acknowledges answers that contradict a label without storing them."""

    def write(self, event: Event) -> Recorded:
        if event.HasField("answer_given"):
            return Recorded(event, len(self.events))
        return super().write(event)


class StateThatBelievesTheLast(LabelingState):
    """Lets an answer that comes late decide about its sample's label."""

    def apply(self, event: Event, at: datetime) -> None:
        if event.HasField("answer_given"):
            plain = Event.FromString(event.SerializeToString())
            plain.answer_given.label = event.answer_given.late_label
            super().apply(plain, at)
        else:
            super().apply(event, at)


class StateByArrival(RunState):
    """Trains on labels in the order in which they arrived."""

    def _answered(self, sample_ids: Iterable[int]) -> list[Example]:
        wanted = set(sample_ids)
        return super()._answered(sample_id for sample_id in self.answers.standing if sample_id in wanted)


class StateThatRevisesAtOnce(RunState):
    """Applies revised labels while a fit is in progress."""

    def apply(self, event: Event, at: datetime) -> None:
        super().apply(event, at)
        self.run_log.revised = self.answers.pop_changed()
        self._take_revised()


class StateThatMoves(RunState):
    """Changes while a step is computed from it."""

    def as_it_stands(self) -> RunState:
        return self


class StateThatForgetsBudget(RunState):
    """Treats a replayed run as one that has paid for no label."""

    def as_it_stands(self) -> RunState:
        current = super().as_it_stands()
        current.run_log.label_count = 0
        return current


class ReopeningState(LabelingState):
    """Asks annotators for labels of a run that is over."""

    def apply(self, event: Event, at: datetime) -> None:
        super().apply(event, at)
        if self.over and event.HasField("labels_requested"):
            self.run_log.ended = None
            self.answers.open_batch(event.round, event.labels_requested.sample_ids)


class OracleThatPaysAgain(Oracle):
    """Records labels again after each restart, as new revisions."""

    lives = count(1)

    def __init__(self, world: World) -> None:
        self._life = next(self.lives)
        super().__init__(world)

    async def append_once(self, event: Event) -> Recorded:
        if event.HasField("label_provided"):
            event.label_provided.revision = self._life
        return await super().append_once(event)


class OracleThatBoasts(Oracle):
    """Reports every submitted label as recorded."""

    async def _submit(self, request: SubmitLabelsRequest) -> None:
        await super()._submit(request)
        self.around.told(request, SubmitLabelsResponse(recorded=len(request.labels)))


class DeafTrainer(Trainer):
    """Reads no events, so that its runs do not end."""

    def read(self, recorded: Recorded) -> None:
        self.seen = max(self.seen, recorded.sequence)


class TrustingTrainer(Trainer):
    """Leaves runs for good to trainers that it once heard."""

    def look(self) -> None: ...


def _trainer(state: type[RunState]) -> Parts:
    return Parts(trainer=lambda world: Trainer(world, state.begin))


# Each with the message by which the suite reports it.
MUTANTS = {
    "a log that takes second writes": (Parts(log=LogThatTakesSecondWrites), "stands already"),
    "a log that loses labels": (Parts(log=LogThatLosesLabels), "were acknowledged"),
    "a log that loses contradictions": (Parts(log=LogThatLosesContradictions), "were accepted, and vanished"),
    "an oracle that believes the last": (
        Parts(oracle=lambda world: Oracle(world, StateThatBelievesTheLast.begin)),
        "is decided by agreement",
    ),
    "a trainer that takes labels in order of arrival": (
        _trainer(StateByArrival),
        "the model was fitted on other labels",
    ),
    "a trainer that takes revisions in at once": (
        _trainer(StateThatRevisesAtOnce),
        "the model was fitted on other labels",
    ),
    "a trainer whose state moves under its step": (_trainer(StateThatMoves), "model_trained: comes where"),
    "a trainer that forgets what it paid": (_trainer(StateThatForgetsBudget), "labels_requested: comes where"),
    "a trainer that hears nothing": (Parts(trainer=DeafTrainer), "the run does not end"),
    "a trainer that waits for the dead": (Parts(trainer=TrustingTrainer), "the run does not end"),
    "an oracle that pays again": (Parts(oracle=OracleThatPaysAgain), "the next revision of sample"),
    "an oracle that boasts": (Parts(oracle=OracleThatBoasts), "people were told of"),
    "a desk that opens again after the end": (
        Parts(oracle=lambda world: Oracle(world, ReopeningState.begin)),
        "did not ask for sample",
    ),
}
