"""What stands in a broker's streams: their settings and every message, to compare before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labelloop.eventlog.stream_setup import read_settings
from nats.aio.client import Client

Message = tuple[str, str]


@dataclass(frozen=True)
class Stood:
    """Settings by stream, and messages (subject and data in base64) by stream and sequence."""

    settings: Mapping[str, Mapping[str, Any]]
    messages: Mapping[tuple[str, int], Message]

    def still_stands_in(self, later: Stood) -> bool:
        """Whether no setting differs in ``later``, and every message is there as it was."""
        return self.settings == later.settings and self.messages.items() <= later.messages.items()

    def new_in(self, later: Stood) -> list[Message]:
        """Return the messages that are in ``later`` only."""
        return [message for place, message in later.messages.items() if place not in self.messages]


async def stood(client: Client, streams: list[str]) -> Stood:
    """Read everything; ``client`` must be allowed to read messages of all these streams."""
    settings, messages = {}, {}
    for stream in streams:
        settings[stream] = {**await read_settings(client, stream)}
        info = json.loads((await client.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=3)).data)
        for sequence in range(info["state"]["first_seq"], info["state"]["last_seq"] + 1):
            asked = json.dumps({"seq": sequence}).encode()
            answer = json.loads((await client.request(f"$JS.API.STREAM.MSG.GET.{stream}", asked, timeout=3)).data)
            if found := answer.get("message"):
                messages[stream, sequence] = (found["subject"], found.get("data", ""))
    return Stood(settings, messages)
