"""Seeds of draws that must have nothing to do with each other. Pure."""

from __future__ import annotations

from hashlib import blake2b

_SEED_BYTES = 8


def seed_for(seed: int, purpose: str, round_: int = 0) -> int:
    """A seed in [0, 2**64) for one purpose of a run with ``seed``, in one round of it."""
    text = f"{seed}/{purpose}/{round_}".encode()
    return int.from_bytes(blake2b(text, digest_size=_SEED_BYTES).digest(), "little")
