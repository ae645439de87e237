"""Take results from annotation tools: record each, find it recorded already, or keep it as a dead letter."""

from __future__ import annotations

from contextlib import suppress

from google.protobuf.json_format import MessageToJson, Parse, ParseError
from labelloop.domain.ids import RequestId
from labelloop.errors import InvalidInput, LabelloopError, NotFound, WrongState
from labelloop.oracle.v1.oracle_pb2 import DeadLetter, LabelResult

from oracle_svc.dead_letters import DeadLetters
from oracle_svc.domain.tool_states import ToolStates
from oracle_svc.integrations.base import RecordStatus, source_of
from oracle_svc.integrations.request_retries import RequestRetries
from oracle_svc.result_recorder import ResultRecorder

_REFUSALS = (InvalidInput, NotFound, WrongState)  # an automatic retry would not help


def read_result(data: bytes) -> LabelResult:
    """Parse a LabelResult from JSON. Raises InvalidInput if ``data`` is not one."""
    try:
        return Parse(data.decode(), LabelResult())
    except (UnicodeDecodeError, ParseError) as error:
        message = f"this is no label result as JSON: {' '.join(str(error).split())}"
        raise InvalidInput("MALFORMED", message, field="result") from error


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
        return await self._take(result, _json(result))

    async def take_json(self, data: bytes) -> RecordStatus:
        try:
            result = read_result(data)
        except InvalidInput as error:
            await self._dead_letters.keep(self._source, data, error)
            return RecordStatus.REFUSED
        return await self._take(result, data)

    def note_reading(self, problem: str = "") -> None:
        self._states.note(self._tool, "results", problem)

    async def _take(self, result: LabelResult, data: bytes) -> RecordStatus:
        try:
            recorded = await self._recorder.take([result], self._source)
        except _REFUSALS as error:
            await self._dead_letters.keep(self._source, data, error)
            with suppress(InvalidInput):  # it may not name a request
                await self._ask_again(RequestId.parse(result.request_id))
            return RecordStatus.REFUSED
        return RecordStatus.RECORDED if recorded else RecordStatus.REPEATED


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
