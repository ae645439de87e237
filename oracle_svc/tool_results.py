"""Take results from annotation tools: record each, find it recorded already, or keep it as a dead letter."""

from __future__ import annotations

from contextlib import suppress

from google.protobuf.json_format import MessageToJson
from labelloop.domain.ids import RequestId
from labelloop.domain.limits import TEXT_CHARACTERS_MAX
from labelloop.errors import InvalidInput, LabelloopError, NotFound, WrongState
from labelloop.oracle.v1.oracle_pb2 import DeadLetter, LabelResult, LabelVerdict, Verdict

from oracle_svc.dead_letters import DeadLetters
from oracle_svc.domain.tool_states import ToolStates
from oracle_svc.integrations.base import RecordStatus, source_of
from oracle_svc.integrations.request_retries import RequestRetries
from oracle_svc.result_json import named_requests, read_result
from oracle_svc.result_recorder import ResultRecorder

_REFUSALS = (InvalidInput, NotFound, WrongState)  # an automatic retry would not help
_MESSAGE_CHARACTERS_MAX = 1000


class ToolResultSink:
    """Result sink of one tool, which is asked again when its result is refused."""

    def __init__(
        self,
        tool: str,
        recorder: ResultRecorder,
        dead_letters: DeadLetters,
        ask_again: RequestRetries,
        states: ToolStates,
    ) -> None:
        self._tool, self._states = tool, states
        self._source, self._recorder, self._dead_letters = source_of(tool), recorder, dead_letters
        self._ask_again = ask_again

    async def take(self, result: LabelResult) -> RecordStatus:
        try:
            return await self._record(result)
        except _REFUSALS as error:
            await self._refuse(_json(result), _requests_of(result, b""), error)
            return RecordStatus.REFUSED

    async def take_json(self, data: bytes) -> LabelVerdict:
        result, requests = LabelResult(), list[RequestId]()
        try:
            result = read_result(data)
            requests = _requests_of(result, data)
            verdict = self._verdict(result, requests)
            verdict.verdict = _VERDICTS[await self._record(result)]
        except _REFUSALS as error:
            requests = requests or named_requests(data)
            verdict = self._verdict(result, requests)
            verdict.verdict, verdict.reason = Verdict.VERDICT_REFUSED, error.reason
            verdict.message = error.message[:_MESSAGE_CHARACTERS_MAX]
            await self._refuse(data, requests, error)
        return verdict

    def note_reading(self, problem: str = "") -> None:
        self._states.note(self._tool, "results", problem)

    async def _record(self, result: LabelResult) -> RecordStatus:
        recorded = await self._recorder.take([result], self._source)
        return RecordStatus.RECORDED if recorded else RecordStatus.REPEATED

    async def _refuse(self, data: bytes, requests: list[RequestId], error: LabelloopError) -> None:
        await self._dead_letters.keep(self._source, data, error, str(requests[0]) if requests else "")
        for request in requests:
            await self._ask_again(request)

    def _verdict(self, result: LabelResult, requests: list[RequestId]) -> LabelVerdict:
        """Begin the verdict on a result, with the attempt that it answers."""
        verdict = LabelVerdict(
            annotator=result.annotator[:TEXT_CHARACTERS_MAX],
            source_event_id=result.source_event_id[:TEXT_CHARACTERS_MAX],
            revision=result.revision,
        )
        if requests:
            verdict.request_id, verdict.run_id = str(requests[0]), requests[0].run_id
            verdict.attempt = self._ask_again.attempt(requests[0], result.revision)
        return verdict


_VERDICTS = {
    RecordStatus.RECORDED: Verdict.VERDICT_RECORDED,
    RecordStatus.REPEATED: Verdict.VERDICT_REPEATED,
    RecordStatus.REFUSED: Verdict.VERDICT_REFUSED,
}


def _requests_of(result: LabelResult, data: bytes) -> list[RequestId]:
    """Return the request that a result is for; those that its data names in another way if it names none."""
    with suppress(InvalidInput):
        return [RequestId.parse(result.request_id)]
    return named_requests(data)


def _json(result: LabelResult) -> bytes:
    return MessageToJson(result, preserving_proto_field_name=True, indent=None).encode()


async def replay(letter: DeadLetter, recorder: ResultRecorder, dead_letters: DeadLetters) -> LabelloopError | None:
    """Try to record a dead letter's result; return the error if it is still refused."""
    try:
        await recorder.take([read_result(letter.data)], letter.source)
    except _REFUSALS as error:
        return error
    await dead_letters.mark_taken(letter.id)
    return None
