"""Seal and open session cookies, and check annotators' names. Pure functions.

The cookie's key is derived from the shared token: every replica of the oracle accepts it, and a new token ends all
sessions. Deriving it takes 50 ms, once: otherwise a short token could be found by trying cookies instead of tokens.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import unicodedata
from functools import lru_cache
from hashlib import scrypt

from labelloop.errors import InvalidInput

from oracle_svc.secret_comparison import same_secret

COOKIE = "labelloop_session"
LIFETIME_S = 30 * 24 * 3600
NAME_CHARACTERS_MAX = 200


def seal(name: str, token: str, now_s: float) -> str:
    """Return a cookie value for a user who knows the token; ``name`` is empty until they have given it."""
    body = json.dumps({"name": name, "until": int(now_s) + LIFETIME_S}).encode()
    return f"{_text(body)}.{_text(_signature(body, token))}"


def unseal(cookie: str, token: str, now_s: float) -> str | None:
    """Return the name that a cookie was sealed with; None if it is not ours, or too old."""
    body_text, _, signature_text = cookie.partition(".")
    try:
        body, signature = _bytes(body_text), _bytes(signature_text)
    except (binascii.Error, ValueError):
        return None
    if not same_secret(signature, _signature(body, token)):
        return None
    held = json.loads(body)
    return str(held["name"]) if held["until"] > now_s else None


def check_name(name: str) -> str:
    """Return the name in NFC, without spaces around it. Raises InvalidInput for an invalid one."""
    name = unicodedata.normalize("NFC", name).strip()
    if not name or len(name) > NAME_CHARACTERS_MAX or any(unicodedata.category(each)[0] == "C" for each in name):
        message = f"say who labels: a name of 1 to {NAME_CHARACTERS_MAX} characters, without control characters"
        raise InvalidInput("BAD_NAME", message, field="name")
    return name


def _signature(body: bytes, token: str) -> bytes:
    return hmac.digest(_key(token), body, "sha256")


@lru_cache(maxsize=8)
def _key(token: str) -> bytes:
    return scrypt(token.encode(), salt=b"labelloop session", n=2**14, r=8, p=1, dklen=32)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
