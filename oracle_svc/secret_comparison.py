"""Compare secrets in a time that does not reveal the position at which they differ."""

from __future__ import annotations

import hmac


def same_secret(given: str | bytes, secret: str | bytes) -> bool:
    """Return whether ``given``, which may come from anybody, is the secret."""
    return hmac.compare_digest(_as_bytes(given), _as_bytes(secret))


def _as_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode(errors="replace")  # not all text is UTF-8
