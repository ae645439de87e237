"""Links to samples, for tools that take no large messages. Pure.

A link's key is made of a secret and of what it leads to: whoever has a link sees that sample and no other. Every
replica of the oracle makes the same links, and they hold for as long as the secret does.
"""

from __future__ import annotations

import hmac
from hashlib import scrypt
from urllib.parse import quote

from oracle_svc.web.session import same_secret

PATH = "/samples"
_SALT = b"labelloop samples"


class Links:
    """``base_url`` is where people and tools reach the oracle's HTTP port. Making one takes 50 ms: links go to many,
    who are not to find a short secret by trying."""

    def __init__(self, base_url: str, secret: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._key = scrypt(secret.encode(), salt=_SALT, n=2**14, r=8, p=1, dklen=32)

    def uri(self, run_id: str, sample_id: int) -> str:
        place = f"{quote(run_id, safe='')}/{sample_id}"
        return f"{self._base_url}{PATH}/{place}?key={self._sign(run_id, str(sample_id))}"

    def is_right(self, key: str, run_id: str, sample_id: str) -> bool:
        """Whether ``key`` is the one of a link to that sample, ``sample_id`` as it stands there; in a time that tells
        nothing of the right one."""
        return same_secret(key, self._sign(run_id, sample_id))

    def _sign(self, run_id: str, sample_id: str) -> str:
        return hmac.digest(self._key, f"{run_id}/{sample_id}".encode(errors="replace"), "sha256").hex()


def on_own_page(uri: str, base_url: str) -> str:
    """A link of ours as our own pages follow it, at whatever address they were opened."""
    return uri.removeprefix(base_url.rstrip("/")) if uri.startswith(base_url.rstrip("/") + PATH) else uri
