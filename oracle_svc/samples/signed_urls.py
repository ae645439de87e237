"""Sign and verify the URLs of samples, for annotation tools that cannot take large messages. No I/O.

A URL's key is derived from a secret, the run and the sample, so that it gives access to that sample and to no other.
Every replica of the oracle makes the same URLs, and they stay valid until the secret changes.
"""

from __future__ import annotations

import hmac
from hashlib import scrypt
from urllib.parse import quote

from oracle_svc.secret_comparison import same_secret

PATH = "/samples"
GUIDELINES = "guidelines"  # in place of a sample's id
_SALT = b"labelloop samples"


class SignedUrls:
    """Signs and verifies URLs of samples.

    Constructing an instance takes 50 ms, because the signing key is derived from the secret with scrypt: many people
    get such URLs, and none of them must be able to find a short secret by trial.

    Args:
        base_url: Address at which annotators and tools reach the oracle's HTTP port.
    """

    def __init__(self, base_url: str, secret: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._key = scrypt(secret.encode(), salt=_SALT, n=2**14, r=8, p=1, dklen=32)

    def uri(self, run_id: str, sample_id: int) -> str:
        """Return the signed URL of a sample."""
        place = f"{quote(run_id, safe='')}/{sample_id}"
        return f"{self._base_url}{PATH}/{place}?key={self._sign(run_id, str(sample_id))}"

    def guidelines_uri(self, run_id: str) -> str:
        """Return the signed URL of a run's guidelines."""
        return f"{self._base_url}{PATH}/{quote(run_id, safe='')}/{GUIDELINES}?key={self._sign(run_id, GUIDELINES)}"

    def is_right(self, key: str, run_id: str, sample_id: str) -> bool:
        """Return whether ``key`` belongs to the URL of that sample, in a time that reveals nothing of the right key.

        ``sample_id`` is the text in the URL, not yet parsed, or ``GUIDELINES``.
        """
        return same_secret(key, self._sign(run_id, sample_id))

    def _sign(self, run_id: str, sample_id: str) -> str:
        return hmac.digest(self._key, f"{run_id}/{sample_id}".encode(errors="replace"), "sha256").hex()


def on_own_page(uri: str, base_url: str) -> str:
    """Make a signed URL relative, so that the oracle's own pages can use it at any address; return others unchanged."""
    return uri.removeprefix(base_url.rstrip("/")) if uri.startswith(base_url.rstrip("/") + PATH) else uri
