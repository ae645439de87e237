"""Ask every node that believes to lead a stream. After a split there may be several, until all but one notice."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.errors import ConnectionReconnectingError
from nats.errors import TimeoutError as NatsTimeoutError

from labelloop.eventlog.broker_answers import BY_CODE as HANDLING_BY_CODE
from labelloop.eventlog.broker_answers import Handling
from labelloop.eventlog.connection import next_message

_ANSWERS_WITHIN_S = 0.5

Held = tuple[str, bytes] | None
"""The subject and the data of a message; None if there is none."""


@dataclass(frozen=True)
class Answers:
    """What leaders say about a message.

    Attributes:
        last_sequences: The sequence of the newest message, by each leader.
        held: What each leader holds under the sequence asked for.
        replicated: Whether leaders may still have to apply messages that followers have applied.
    """

    last_sequences: Sequence[int]
    held: Sequence[Held]
    replicated: bool


class StreamLeaders:
    """Asks the leaders of ``stream``, and uses the answers that arrive within half a second."""

    def __init__(self, client: Client, stream: str) -> None:
        self._client, self._stream = client, stream

    async def ask(self, sequence: int) -> Answers:
        """Return what the leaders hold under ``sequence``; errors of a connection that is lost pass through."""
        infos = await self._request(f"STREAM.INFO.{self._stream}", {})  # first: what it counts can be read afterwards
        found = await self._request(f"STREAM.MSG.GET.{self._stream}", {"seq": sequence})
        states = [info for info in infos if "state" in info]
        return Answers(
            [info["state"]["last_seq"] for info in states],
            [_held(answer) for answer in found if "message" in answer or _is_absent(answer)],
            any(info["config"].get("num_replicas", 1) > 1 for info in states),
        )

    async def _request(self, what: str, request: Mapping[str, object]) -> list[dict[str, Any]]:
        if not self._client.is_connected:
            raise ConnectionReconnectingError  # otherwise the client would send it once it reconnects
        inbox = await self._client.subscribe(self._client.new_inbox())
        answers = []
        try:
            await self._client.publish(f"$JS.API.{what}", json.dumps(request).encode(), reply=inbox.subject)
            until_s = _now_s() + _ANSWERS_WITHIN_S
            while (left_s := until_s - _now_s()) > 0:
                message = await next_message(inbox, left_s)
                if message.data:  # none if nothing takes such requests
                    answers.append(json.loads(message.data))
        except NatsTimeoutError:
            pass  # no further leader answers
        finally:
            if not self._client.is_closed:
                await inbox.unsubscribe()
        return answers


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _is_absent(answer: Mapping[str, Any]) -> bool:
    return HANDLING_BY_CODE.get(answer.get("error", {}).get("err_code", 0)) is Handling.ABSENT


def _held(answer: Mapping[str, Any]) -> Held:
    message = answer.get("message")
    return (message["subject"], b64decode(message.get("data", ""))) if message else None
