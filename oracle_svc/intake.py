"""Where tools bring results: each is recorded, found to stand already, or kept as a dead letter."""

from __future__ import annotations

from contextlib import suppress

from google.protobuf.json_format import MessageToJson, Parse, ParseError
from labelloop.oracle.v1.oracle_pb2 import DeadLetter, LabelResult
from labelloop.wire.errors import InvalidInput, LabelloopError, NotFound, WrongState

from oracle_svc.asking_again import AskingAgain
from oracle_svc.clerk import Clerk
from oracle_svc.dead_letters import DeadLetters
from oracle_svc.queues.queue import Verdict, source_of
from oracle_svc.taking import RequestId

_REFUSALS = (InvalidInput, NotFound, WrongState)  # trying again by itself would not help


def read_result(data: bytes) -> LabelResult:
    """InvalidInput where ``data`` is no LabelResult as JSON."""
    try:
        return Parse(data.decode(), LabelResult())
    except (UnicodeDecodeError, ParseError) as error:
        message = f"this is no label result as JSON: {' '.join(str(error).split())}"
        raise InvalidInput("MALFORMED", message, field="result") from error


class ToolIntake:
    """The intake of one tool, which is asked again where what it brings is refused."""

    def __init__(self, tool: str, clerk: Clerk, dead_letters: DeadLetters, ask_again: AskingAgain) -> None:
        self._source, self._clerk, self._dead_letters = source_of(tool), clerk, dead_letters
        self._ask_again = ask_again

    async def take(self, result: LabelResult) -> Verdict:
        return await self._take(result, _json(result))

    async def take_json(self, data: bytes) -> Verdict:
        try:
            result = read_result(data)
        except InvalidInput as error:
            await self._dead_letters.keep(self._source, data, error)
            return Verdict.REFUSED
        return await self._take(result, data)

    async def _take(self, result: LabelResult, data: bytes) -> Verdict:
        try:
            recorded = await self._clerk.take([result], self._source)
        except _REFUSALS as error:
            await self._dead_letters.keep(self._source, data, error)
            with suppress(InvalidInput):  # it may be no request's
                await self._ask_again(RequestId.parse(result.request_id))
            return Verdict.REFUSED
        return Verdict.RECORDED if recorded else Verdict.REPEATED


def _json(result: LabelResult) -> bytes:
    return MessageToJson(result, preserving_proto_field_name=True, indent=None).encode()


async def replay(letter: DeadLetter, clerk: Clerk, dead_letters: DeadLetters) -> LabelloopError | None:
    """Try a dead letter again; the error where it still cannot be taken."""
    try:
        await clerk.take([read_result(letter.data)], letter.source)
    except _REFUSALS as error:
        return error
    await dead_letters.mark_taken(letter.id)
    return None
