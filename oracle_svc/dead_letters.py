"""Store annotation results that could not be recorded, until an operator replays or discards them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from types import MappingProxyType

from google.protobuf.message import DecodeError
from labelloop.errors import LabelloopError
from labelloop.eventlog.connection import jetstream
from labelloop.eventlog.ordered_consumer import follow_stream
from labelloop.eventlog.retry import retry_while_away
from labelloop.eventlog.rollback_guard import UnguardedLog
from labelloop.eventlog.strays import publish_first
from labelloop.eventlog.stream_setup import wait_for_stream
from labelloop.eventlog.streams import DEAD_LETTERS, DEAD_LETTERS_BYTES_MAX, DEAD_LETTERS_PREFIX, dead_letters
from labelloop.oracle.v1.oracle_pb2 import DeadLetter, LabelResult
from labelloop.runtime.crash_points import crash_point
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import RawStreamMsg
from structlog import get_logger

from oracle_svc.domain.letter_index import LetterIndex

STREAM, PREFIX = DEAD_LETTERS, DEAD_LETTERS_PREFIX
_TAKEN, _DISCARDED = _ENDS = "taken", "discarded"
_ID_CHARACTERS = 32
_DATA_BYTES_MAX = 256 * 1024

log = get_logger()


class DeadLetters:
    """Durable store of refused results, in a JetStream stream of its own.

    Each letter is written once, however often its tool delivers the result, and so is the mark that it was recorded
    after all or discarded. Beyond ``bytes_max`` the oldest letters are dropped to make room for new ones.
    """

    def __init__(self, client: Client, bytes_max: int = DEAD_LETTERS_BYTES_MAX) -> None:
        self._client, self._js, self._bytes_max = client, jetstream(client), bytes_max
        self._letters: dict[str, DeadLetter] = {}
        self._index = LetterIndex()
        self._bytes = 0
        self._done: set[str] = set()
        self._rollback_guard = UnguardedLog(self._js, STREAM)

    async def ensure_stream(self, replicas: int = 1) -> None:
        await wait_for_stream(self._client, dead_letters(replicas, self._bytes_max))

    async def follow(self) -> None:
        """Track the letters that other replicas store or end, until cancelled."""
        async for message in follow_stream(self._client, self._js, STREAM, f"{PREFIX}.>", 0, self._rollback_guard):
            self._note(message)

    def _note(self, message: Msg) -> None:
        kind, _, letter_id = message.subject.removeprefix(f"{PREFIX}.").partition(".")
        if kind in _ENDS:
            self._hear_end(letter_id, message)
            return
        try:
            self._add(DeadLetter.FromString(message.data))
        except DecodeError as error:
            log.error("dead_letter_unreadable", id=letter_id, error=str(error))

    def _hear_end(self, letter_id: str, message: Msg) -> None:
        if message.data:
            log.error("dead_letter_mark_unreadable", id=letter_id, sequence=message.metadata.sequence.stream)
        else:
            self._end(letter_id)

    def _add(self, letter: DeadLetter) -> None:
        if letter.id in self._letters or letter.id in self._done:
            return
        self._letters[letter.id] = letter
        self._index.add(letter)
        self._bytes += letter.ByteSize()
        while self._bytes > self._bytes_max:
            self._drop(next(iter(self._letters)))

    def _drop(self, letter_id: str) -> None:
        if letter := self._letters.pop(letter_id, None):
            self._bytes -= letter.ByteSize()
            self._index.drop(letter_id)

    def _end(self, letter_id: str) -> None:
        self._done.add(letter_id)
        self._drop(letter_id)

    @property
    def letters(self) -> Mapping[str, DeadLetter]:
        """Letters neither recorded nor discarded, oldest first. Safe to read from another thread."""
        return MappingProxyType(self._letters.copy())

    def of_run(self, run_id: str) -> list[DeadLetter]:
        """Return the letters for a run, oldest first; all letters if ``run_id`` is empty."""
        return [self._letters[each] for each in self._index.of_run(run_id)] if run_id else [*self._letters.values()]

    def count(self, run_id: str) -> int:
        """Return the number of letters for a run."""
        return len(self._index.of_run(run_id))

    def newest_first(self, letter_ids: Iterable[str]) -> list[str]:
        """Return letters in the order in which to replay them."""
        return self._index.newest_first(letter_ids)

    async def close_replaced(self, result: LabelResult, *, one_annotator: bool) -> None:
        """End the letters that a recorded result replaced."""
        for letter_id in self._index.replaced_by(result, one_annotator=one_annotator):
            log.info("dead_letter_replaced", id=letter_id)
            await self._mark(_DISCARDED, letter_id)

    async def keep(self, source: str, data: bytes, error: LabelloopError, request_id: str = "") -> None:
        """Store a refused result and return once it is durable. Data beyond 256 KiB is cut."""
        letter_id = sha256(source.encode() + b"\0" + data).hexdigest()[:_ID_CHARACTERS]
        letter = DeadLetter(
            id=letter_id,
            source=source,
            reason=error.reason,
            message=error.message,
            data=data[:_DATA_BYTES_MAX],
            request_id=request_id,
        )
        letter.received_at.GetCurrentTime()
        subject, body = f"{PREFIX}.letter.{letter_id}", letter.SerializeToString()
        crash_point("before keep")
        if await retry_while_away(lambda: publish_first(self._js, STREAM, subject, body)):
            log.warning("result_dead_lettered", id=letter_id, reason=error.reason)
        crash_point("after keep")
        self._add(letter)

    async def mark_taken(self, letter_id: str) -> None:
        """Note that a replay recorded the letter's result."""
        await self._mark(_TAKEN, letter_id)

    async def discard(self, letter_id: str) -> None:
        """Discard a letter for good. It stays in the stream until newer ones push it out."""
        await self._mark(_DISCARDED, letter_id)

    async def _mark(self, end: str, letter_id: str) -> None:
        subject = f"{PREFIX}.{end}.{letter_id}"
        await retry_while_away(lambda: publish_first(self._js, STREAM, subject, b"", _is_mark))
        self._end(letter_id)


def _is_mark(message: RawStreamMsg) -> bool:
    return not message.data
