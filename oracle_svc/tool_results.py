"""Take results from annotation tools: record each, find it recorded already, or keep it as a dead letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from google.protobuf.json_format import MessageToJson, Parse, ParseError
from labelloop.domain.class_names import comparable
from labelloop.domain.ids import RequestId
from labelloop.domain.limits import TEXT_CHARACTERS_MAX
from labelloop.errors import InvalidInput, LabelloopError, NotFound, WrongState
from labelloop.oracle.v1.oracle_pb2 import ClassAlias, DeadLetter, LabelResult

from oracle_svc.dead_letters import DeadLetters
from oracle_svc.domain.result_validation import ANSWERED_BY_ANOTHER
from oracle_svc.integrations.base import RecordStatus, source_of
from oracle_svc.integrations.request_retries import RequestRetries
from oracle_svc.result_recorder import ResultRecorder

_ALIASES_MAX = 100
_REFUSALS = (InvalidInput, NotFound, WrongState)  # an automatic retry would not help


def read_result(data: bytes) -> LabelResult:
    """Parse a LabelResult from JSON. Raises InvalidInput if ``data`` is not one."""
    try:
        return Parse(data.decode(), LabelResult())
    except (UnicodeDecodeError, ParseError) as error:
        message = f"this is no label result as JSON: {' '.join(str(error).split())}"
        raise InvalidInput("MALFORMED", message, field="result") from error


class ToolResultSink:
    """Result sink of one tool, which is asked again when its result is refused.

    Args:
        keeps_contradictions: Whether a result that comes after another annotator's and differs from it is kept as a
            dead letter. A tool that shares samples out itself shows them to more people than were asked.
    """

    def __init__(
        self,
        tool: str,
        recorder: ResultRecorder,
        dead_letters: DeadLetters,
        ask_again: RequestRetries,
        *,
        keeps_contradictions: bool = False,
    ) -> None:
        self._keeps_contradictions = keeps_contradictions
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

    async def _take(self, result: LabelResult, data: bytes) -> RecordStatus:
        try:
            recorded = await self._recorder.take([result], self._source)
            if not recorded and self._keeps_contradictions and (error := self._recorder.contradiction(result)):
                raise error
        except _REFUSALS as error:
            await self._dead_letters.keep(self._source, data, error)
            with suppress(InvalidInput):  # it may not name a request
                await self._ask_again(RequestId.parse(result.request_id))
            return RecordStatus.REFUSED
        if self._recorder.is_recorded(result):  # perhaps by a process that ended before it closed the letters
            await self._dead_letters.close_replaced(result, one_annotator=self._recorder.asks_one(result))
        elif self._keeps_contradictions:
            await self._dead_letters.close_settled(result)
        return RecordStatus.RECORDED if recorded else RecordStatus.REPEATED


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
        if not recorded and letter.reason == ANSWERED_BY_ANOTHER and (error := recorder.contradiction(result)):
            return error
    except _REFUSALS as error:
        return error
    await dead_letters.mark_taken(letter.id)
    if recorded:
        await dead_letters.close_replaced(result, one_annotator=recorder.asks_one(result))
    return None
