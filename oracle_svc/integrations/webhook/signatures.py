"""Sign and verify webhooks as Standard Webhooks defines it: HMAC-SHA256 over id, time and body."""

from __future__ import annotations

import base64
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from time import time
from typing import Any

from labelloop.errors import NotAllowed, WrongState
from standardwebhooks import Webhook, WebhookVerificationError

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE_S = 300.0
"""How far from now a message's time may be, in seconds either way: the library's own limit."""
_SEEN_MAX = 10_000
_PREFIX = "whsec_"


def check_secret(secret: str) -> None:
    """Raise ValueError if ``secret`` is not a valid one."""
    coded = secret.removeprefix(_PREFIX)
    try:
        length = len(base64.b64decode(coded + "=" * (-len(coded) % 4), validate=True))
    except ValueError:
        length = 0
    if not secret.startswith(_PREFIX) or not 24 <= length <= 64:
        raise ValueError("each secret is whsec_ and 24 to 64 random bytes in base64")


def content_digest(kind: str, data: Any) -> str:
    """Return the hex SHA-256 of a message's content, which does not depend on its time."""
    return sha256(json.dumps([kind, data], sort_keys=True).encode()).hexdigest()


class Signatures:
    """Signs and verifies messages with one or several ``whsec_`` secrets.

    The first signs, all of them are accepted, so that they can be rotated without a pause.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [Webhook(secret) for secret in secrets]

    def headers(self, message_id: str, body: str) -> dict[str, str]:
        """Return the headers that sign a message as of now."""
        now = datetime.now(tz=UTC)
        return {
            ID: message_id,
            TIMESTAMP: str(int(now.timestamp())),
            SIGNATURE: self._keys[0].sign(message_id, now, body),
        }

    def check(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raise NotAllowed unless the message was signed with one of the secrets, within five minutes of now."""
        problem = ""
        for key in self._keys:
            try:
                key.verify(body, dict(headers), json_parse=False)
                return
            except WebhookVerificationError as error:
                problem = str(error)
            except ValueError:  # no base64, no UTF-8, no "v1,": the library does not catch these
                problem = "Malformed signature"
        message = f"{problem}: sign it again with LABELLOOP_WEBHOOK_SECRET, and see that the clocks agree"
        raise NotAllowed("BAD_SIGNATURE", message)


class SeenMessages:
    """The content digests of recently signed messages, by message id.

    A sender whose answer was lost sends the same again, which is harmless; other content under the same id is an error
    or a forgery. Each process keeps its own, at most ``most`` of them.
    """

    def __init__(self, now_s: Callable[[], float] = time, most: int = _SEEN_MAX) -> None:
        self._now_s, self._most = now_s, most
        self._seen: OrderedDict[str, tuple[str, float]] = OrderedDict()  # digest, when to forget; oldest first

    def note(self, message_id: str, digest: str) -> None:
        """Remember a message. Raises WrongState if its id came with other content before."""
        now_s = self._now_s()
        self._forget(now_s)
        if self._seen.get(message_id, (digest, 0.0))[0] != digest:
            message = f"message {message_id[:100]!r} came before with other content: give each message an id of its own"
            raise WrongState("ID_REUSED", message)
        # A message signed five minutes ahead of our clock stays valid for ten.
        self._seen[message_id] = digest, now_s + 2 * TOLERANCE_S
        self._seen.move_to_end(message_id)

    def _forget(self, now_s: float) -> None:
        while self._seen:
            _, forget_at_s = next(iter(self._seen.values()))
            if forget_at_s > now_s and len(self._seen) < self._most:
                return
            self._seen.popitem(last=False)
