"""Write the bytes of a ``ScoreResponse`` without building the message, which takes longer than a small model's answer.

The bytes are those that protobuf's own serialisation gives: fields in the order of their numbers, repeated numbers
packed. Pure functions.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

_ONE_BYTE = 0x80  # varints below it take one byte
_MODEL, _PREDICTED, _CONFIDENCE = b"\x0a", b"\x12", b"\x1a"  # fields 1 to 3, each with its length before it


def answer_bytes(digest: str, predicted: bytes, confidence: bytes) -> bytes:
    """Return the response of some samples.

    Args:
        predicted: their classes as varints, one byte each for classes below 128.
        confidence: their probabilities, little-endian float32.
    """
    return b"".join(
        (
            _head(digest),
            _PREDICTED,
            _varint(len(predicted)),
            predicted,
            _CONFIDENCE,
            _varint(len(confidence)),
            confidence,
        )
    )


def packed(predicted: Sequence[int], confidence: Sequence[float]) -> tuple[bytes, bytes]:
    """Return classes and probabilities as :func:`answer_bytes` takes them; probabilities are values of float32."""
    return b"".join(map(_varint, predicted)), struct.pack(f"<{len(confidence)}f", *confidence)


@lru_cache(maxsize=128)  # twice the models that are kept
def _head(digest: str) -> bytes:
    encoded = digest.encode()
    return _MODEL + _varint(len(encoded)) + encoded


def _varint(value: int) -> bytes:
    if value < _ONE_BYTE:
        return _SMALL[value]
    found = bytearray()
    while value >= _ONE_BYTE:
        found.append(value % _ONE_BYTE + _ONE_BYTE)
        value //= _ONE_BYTE
    found.append(value)
    return bytes(found)


_SMALL = [bytes([value]) for value in range(_ONE_BYTE)]
