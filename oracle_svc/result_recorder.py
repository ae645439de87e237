"""Validate annotation results and record each exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from labelloop.domain.ids import RequestId
from labelloop.errors import InvalidInput
from labelloop.eventlog.log import EventLog, Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event
from labelloop.oracle.v1.oracle_pb2 import LabelResult

from oracle_svc.domain.labeling_state import LabelingState, is_late
from oracle_svc.domain.result_validation import admit, is_recorded
from oracle_svc.metrics import LABELS_PAID

_TOGETHER = 500  # concurrent appends


async def append_answers(log: EventLog, events: Sequence[Event]) -> list[Recorded]:
    """Append annotation events; return for each what the log now holds in its place, ours or another."""
    standing: list[Recorded] = []
    for i in range(0, len(events), _TOGETHER):
        standing += await asyncio.gather(*(append_answer(log, event) for event in events[i : i + _TOGETHER]))
    return standing


async def append_answer(log: EventLog, event: Event) -> Recorded:
    """Append one event, and count it as a paid label if it is a sample's first label and ours."""
    recorded = await log.append_once(event)
    LABELS_PAID.inc(recorded.ours and event.HasField("label_provided") and not event.label_provided.revision)
    return recorded


class ResultRecorder:
    """Records annotation results from annotators and tools in the event log."""

    def __init__(self, projections: RunProjections[LabelingState], log: EventLog) -> None:
        self._projections, self._log = projections, log

    async def take(self, results: Sequence[LabelResult], source: str, field: str = "results") -> int:
        """Record ``results``, after validating all of them.

        Args:
            source: Recorded as the events' source.
            field: The request field that errors name.

        Returns:
            How many count from now on; the others were recorded before, or came after their sample was settled. Of the
            latter, those that contradict its outcome are in the log as late answers.

        Raises:
            InvalidInput, WrongState, NotFound: For the first result that cannot be taken.
        """
        admitted = [(result, self._admit(result, source, field)) for result in results]
        _check_said_once([(result.request_id, self._identity(result)) for result in results], field)
        fresh = [(result, event) for result, event in admitted if event]
        recorded = 0
        for i in range(0, len(fresh), _TOGETHER):
            part = fresh[i : i + _TOGETHER]
            recorded += sum(await asyncio.gather(*(self._record(*each, source, field) for each in part)))
        return recorded

    def is_recorded(self, result: LabelResult) -> bool:
        """Return whether the log has the result, now or from before."""
        return is_recorded(self._labeling(result), result)

    def asks_one(self, result: LabelResult) -> bool:
        """Return whether one annotator is asked for each sample of the run."""
        return self._labeling(result).annotators == 1

    def _labeling(self, result: LabelResult) -> LabelingState:
        return self._projections.get(RequestId.parse(result.request_id).run_id)

    def _admit(self, result: LabelResult, source: str, field: str) -> Event | None:
        return admit(self._labeling(result), result, source, field)

    def _identity(self, result: LabelResult) -> str:
        labeling = self._labeling(result)
        return labeling.identity_of(labeling.name_in_log(result.annotator, result.annotator_id))

    async def _record(self, result: LabelResult, event: Event | None, source: str, field: str) -> bool:
        """Return whether the result counts from now on; if another event took its place, validate it again."""
        while event:
            recorded = await append_answer(self._log, event)
            await self._projections.wait_for(recorded.sequence)
            if recorded.ours:
                return not is_late(event.answer_given)
            event = self._admit(result, source, field)
        return False


def _check_said_once(answers: Sequence[tuple[str, str]], field: str) -> None:
    """Raise InvalidInput if a person answers a request twice: one submission has no order.

    Args:
        answers: The request id and the annotator's identity of each result.
    """
    seen: set[tuple[str, str]] = set()
    for request_id, identity in answers:
        if (request_id, identity) in seen:
            message = f"request {request_id} is answered twice in one submission"
            raise InvalidInput("ANSWERED_TWICE", message, field=field, request_id=request_id)
        seen.add((request_id, identity))
