"""Results from tools that cannot be taken: kept, shown, and tried again when somebody says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from types import MappingProxyType

from google.protobuf.message import DecodeError
from labelloop.oracle.v1.oracle_pb2 import DeadLetter
from labelloop.wire.basis import Hints
from labelloop.wire.broker import jetstream
from labelloop.wire.crash_points import crash_point
from labelloop.wire.errors import LabelloopError
from labelloop.wire.following import follow_stream
from labelloop.wire.once import ensure_replicas, ensure_stream, publish_once
from labelloop.wire.patience import patiently
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import DiscardPolicy, StreamConfig
from structlog import get_logger

STREAM, PREFIX = "LABELLOOP_DEAD", "labelloop-dead.v1"
_TAKEN, _DISCARDED = _ENDS = "taken", "discarded"
_ID_CHARACTERS = 32
_DATA_BYTES_MAX = 256 * 1024
_BYTES_MAX = 64 * 1024 * 1024

log = get_logger()


class DeadLetters:
    """Each letter is written once, however often its tool brings it; so is the word that it was taken after all, or put
    aside. Beyond ``bytes_max`` the oldest letters make room for new ones."""

    def __init__(self, client: Client, bytes_max: int = _BYTES_MAX) -> None:
        self._client, self._js, self._bytes_max = client, jetstream(client), bytes_max
        self._letters: dict[str, DeadLetter] = {}
        self._bytes = 0
        self._done: set[str] = set()
        self._basis = Hints(self._js, STREAM)

    async def ensure_stream(self, replicas: int = 1) -> None:
        config = StreamConfig(
            name=STREAM,
            subjects=[f"{PREFIX}.>"],
            max_bytes=self._bytes_max,
            discard=DiscardPolicy.OLD,
            num_replicas=replicas,
        )
        info = await patiently(lambda: ensure_stream(self._js, config))
        if info.config.max_bytes != self._bytes_max:  # made by an oracle of before
            bounded = replace(info.config, max_bytes=self._bytes_max)
            info = await patiently(lambda: self._js.update_stream(bounded))
        await ensure_replicas(self._js, info.config, replicas)

    async def follow(self) -> None:
        """Hear of those that other oracles keep, for ever."""
        async for message in follow_stream(self._client, self._js, STREAM, f"{PREFIX}.>", 0, self._basis):
            self._note(message)

    def _note(self, message: Msg) -> None:
        _, _, kind, letter_id = message.subject.split(".", 3)
        if kind in _ENDS:
            self._end(letter_id)
            return
        try:
            self._add(DeadLetter.FromString(message.data))
        except DecodeError as error:
            log.error("a dead letter cannot be read", id=letter_id, error=str(error))

    def _add(self, letter: DeadLetter) -> None:
        if letter.id in self._letters or letter.id in self._done:
            return
        self._letters[letter.id] = letter
        self._bytes += letter.ByteSize()
        while self._bytes > self._bytes_max:
            self._drop(next(iter(self._letters)))

    def _drop(self, letter_id: str) -> None:
        if letter := self._letters.pop(letter_id, None):
            self._bytes -= letter.ByteSize()

    def _end(self, letter_id: str) -> None:
        self._done.add(letter_id)
        self._drop(letter_id)

    @property
    def letters(self) -> Mapping[str, DeadLetter]:
        """Those that were neither taken nor put aside, oldest first; may be asked for from another thread."""
        return MappingProxyType(self._letters.copy())

    async def keep(self, source: str, data: bytes, error: LabelloopError) -> None:
        """Return once it is durable. Data beyond 256 KiB is cut."""
        letter_id = sha256(source.encode() + b"\0" + data).hexdigest()[:_ID_CHARACTERS]
        letter = DeadLetter(
            id=letter_id, source=source, reason=error.reason, message=error.message, data=data[:_DATA_BYTES_MAX]
        )
        letter.received_at.GetCurrentTime()
        subject, body = f"{PREFIX}.letter.{letter_id}", letter.SerializeToString()
        crash_point("before keep")
        if await patiently(lambda: publish_once(self._js, subject, body)):
            log.warning("a result cannot be taken: kept as a dead letter", id=letter_id, reason=error.reason)
        crash_point("after keep")
        self._add(letter)

    async def mark_taken(self, letter_id: str) -> None:
        await self._mark(_TAKEN, letter_id)

    async def discard(self, letter_id: str) -> None:
        """Put it aside for good. It stays in the stream until it makes room."""
        await self._mark(_DISCARDED, letter_id)

    async def _mark(self, end: str, letter_id: str) -> None:
        await patiently(lambda: publish_once(self._js, f"{PREFIX}.{end}.{letter_id}", b""))
        self._end(letter_id)
