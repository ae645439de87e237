"""Collect answers that contradict what stands of their samples, from the answers that the oracle lists."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from labelloop.domain.limits import SKIP_KINDS
from labelloop.domain.sample_outcomes import Outcome, outcome_of
from labelloop.events.v1.events_pb2 import AnswerGiven, Event, LabelProvided, SampleSkipped, SkipKind
from labelloop.oracle.v1.oracle_pb2 import ListAnswersRequest

from labelloop_cli.clients import Clients

_PAGE = 10_000


@dataclass
class Answers:
    """What was said of one sample.

    Attributes:
        standing: Its outcome; None while there is none.
        late: Answers that came after it was settled, in the order of the log.
    """

    standing: Outcome | None = None
    late: list[AnswerGiven] = field(default_factory=list)

    @property
    def contradicting(self) -> list[AnswerGiven]:
        """The late answers that say something else than what stands now, and whose annotators did not agree since."""
        last = {late.annotator: late for late in self.late}
        return [late for late in self.late if self._contradicts(late) and self._contradicts(last[late.annotator])]

    def _contradicts(self, late: AnswerGiven) -> bool:
        match self.standing:
            case LabelProvided():
                return not late.HasField("late_label") or late.late_label != self.standing.label
            case SampleSkipped():
                return self.standing.kind in SKIP_KINDS and late.HasField("late_label")
            case _:
                return False


async def contradicted(clients: Clients, run_id: str) -> dict[int, Answers]:
    """Return what was said of each sample of a run that later answers contradict."""
    found: dict[int, Answers] = {}
    async for event in listed_answers(clients, run_id):
        if outcome := outcome_of(event):
            found.setdefault(outcome.sample_id, Answers()).standing = outcome
        elif event.answer_given.WhichOneof("answer") in ("late_label", "late_skip"):
            found.setdefault(event.answer_given.sample_id, Answers()).late.append(event.answer_given)
    return {sample_id: answers for sample_id, answers in sorted(found.items()) if answers.contradicting}


async def listed_answers(clients: Clients, run_id: str) -> AsyncIterator[Event]:
    """Yield all answers of a run, in the order of the log."""
    request = ListAnswersRequest(run_id=run_id, limit=_PAGE)
    while True:
        response = await clients.oracle.ListAnswers(request)
        for event in response.events:
            yield event
        if not response.events:
            return
        request.after_sequence = response.last_sequence


def late_words(late: AnswerGiven, classes: Sequence[str]) -> str:
    """Return a late answer in words, for example ``cat by kim (a comment)``."""
    said = classes[late.late_label] if late.HasField("late_label") else _skip(late.late_skip)
    comment = f" ({late.comment})" if late.comment else ""
    return f"{said} by {late.annotator or 'nobody in particular'}{comment}"


def outcome_words(outcome: Outcome | None, classes: Sequence[str]) -> str:
    """Return what stands of a sample in words, for example ``cat by kim``."""
    match outcome:
        case LabelProvided():
            return f"{classes[outcome.label]} by {outcome.annotator or outcome.source}"
        case SampleSkipped():
            return f"{_skip(outcome.kind)} by {outcome.annotator or outcome.source}"
        case _:
            return "nothing"


def _skip(kind: SkipKind.ValueType) -> str:
    return SkipKind.Name(kind).removeprefix("SKIP_KIND_").lower()
