"""Derive seeds for random draws that must be independent of each other. Pure functions."""

from __future__ import annotations

from hashlib import blake2b

_SEED_BYTES = 8


def seed_for(seed: int, purpose: str, round_: int = 0) -> int:
    """Return a seed in [0, 2**64) for one purpose in one round of a run with ``seed``."""
    text = f"{seed}/{purpose}/{round_}".encode()
    return int.from_bytes(blake2b(text, digest_size=_SEED_BYTES).digest(), "little")
