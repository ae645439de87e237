"""Seal and open session cookies. Pure functions.

The cookie's key is derived from the shared token: every replica of the oracle accepts it, and a new token ends all
sessions. Deriving it takes 50 ms, once: otherwise a short token could be found by trying cookies instead of tokens.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
from dataclasses import dataclass
from functools import lru_cache
from hashlib import scrypt, sha256

from oracle_svc.secret_comparison import same_secret

COOKIE = "labelloop_session"
LIFETIME_S = 14 * 24 * 3600
_ID_CHARACTERS = 32


@dataclass(frozen=True)
class Session:
    """What a cookie says.

    Attributes:
        name: The annotator's name; empty until they have given it.
        id: What the session is ended by: 32 hexadecimal digits.
        until: When it ends by itself, in seconds since the epoch.
    """

    name: str
    id: str
    until: int


def seal(name: str, token: str, now_s: float) -> str:
    """Return a new session's cookie value for a user who knows the token."""
    said = {"name": name, "until": int(now_s) + LIFETIME_S, "salt": secrets.token_urlsafe(9)}
    body = json.dumps(said).encode()
    return f"{_text(body)}.{_text(_signature(body, token))}"


def unseal(cookie: str, token: str, now_s: float) -> Session | None:
    """Return the session of a cookie; None if it is not ours, or too old, or made to last longer than ours do.

    Earlier releases made sessions that outlive what is remembered of ended ones.
    """
    body_text, _, signature_text = cookie.partition(".")
    try:
        body, signature = _bytes(body_text), _bytes(signature_text)
    except (binascii.Error, ValueError):
        return None
    if not same_secret(signature, _signature(body, token)):
        return None
    held = json.loads(body)
    if not now_s < held["until"] <= int(now_s) + LIFETIME_S:
        return None
    return Session(str(held["name"]), sha256(body).hexdigest()[:_ID_CHARACTERS], held["until"])


def _signature(body: bytes, token: str) -> bytes:
    return hmac.digest(_key(token), body, "sha256")


@lru_cache(maxsize=8)
def _key(token: str) -> bytes:
    return scrypt(token.encode(), salt=b"labelloop session", n=2**14, r=8, p=1, dklen=32)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
