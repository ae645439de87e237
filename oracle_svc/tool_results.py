"""Take results from annotation tools: record each, find it recorded already, or keep it as a dead letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from google.protobuf.json_format import MessageToJson
from labelloop.domain.class_names import comparable
from labelloop.domain.ids import RequestId
from labelloop.domain.limits import TEXT_CHARACTERS_MAX
from labelloop.errors import InvalidInput, LabelloopError, NotFound, WrongState
from labelloop.oracle.v1.oracle_pb2 import ClassAlias, DeadLetter, LabelResult, LabelVerdict, Verdict

from oracle_svc.dead_letters import DeadLetters
from oracle_svc.domain.tool_states import ToolStates
from oracle_svc.integrations.base import RecordStatus, source_of
from oracle_svc.integrations.request_retries import RequestRetries
from oracle_svc.result_json import named_requests, read_result
from oracle_svc.result_recorder import ResultRecorder

_ALIASES_MAX = 100
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
        if self._recorder.is_recorded(result):  # perhaps by a process that ended before it closed the letters
            await self._dead_letters.close_replaced(result, one_annotator=self._recorder.asks_one(result))
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


def check_aliases(aliases: Sequence[ClassAlias]) -> None:
    """Raise InvalidInput if there are too many class aliases, or one is no name."""
    if len(aliases) > _ALIASES_MAX:
        message = f"{len(aliases)} class aliases are too many for one call: send at most {_ALIASES_MAX}"
        raise InvalidInput("TOO_MANY_ALIASES", message, field="class_aliases", most=_ALIASES_MAX)
    for name in (name for each in aliases for name in (each.name, each.class_name)):
        if not name.strip() or len(name) > TEXT_CHARACTERS_MAX:
            message = f"a class alias has two names of 1 to {TEXT_CHARACTERS_MAX} characters"
            raise InvalidInput("BAD_ALIAS", message, field="class_aliases")


def renamed_class(letter: DeadLetter, aliases: Mapping[str, str]) -> str:
    """Return the class that a letter means by one of ``aliases``; empty if it names none of them.

    Only a letter that was refused for its class is read so: another one names a class of the run.
    """
    if letter.reason != "UNKNOWN_CLASS":
        return ""
    try:
        named = comparable(read_result(letter.data).class_name)
    except InvalidInput:
        return ""
    return next((old for new, old in aliases.items() if named and comparable(new) == named), "")


async def replay(
    letter: DeadLetter, recorder: ResultRecorder, dead_letters: DeadLetters, class_name: str = ""
) -> LabelloopError | None:
    """Try to record a dead letter's result; return the error if it is still refused.

    Args:
        class_name: The class that the letter means; empty for the one that it names.
    """
    try:
        result = read_result(letter.data)
        if class_name:
            result.class_name = class_name
        recorded = await recorder.take([result], letter.source)
    except _REFUSALS as error:
        return error
    await dead_letters.mark_taken(letter.id)
    if recorded:
        await dead_letters.close_replaced(result, one_annotator=recorder.asks_one(result))
    return None
