"""Encode texts as bytes: in pool shards, evaluation sets and requests. No I/O.

The bytes are little-endian int64 offsets ``[n + 1]`` followed by the texts in UTF-8, without separators. Offsets count
from the first byte, so that the first one also tells how many texts there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelloop.errors import Corrupt

OFFSET_BYTES = 8


def encode_texts(texts: Sequence[str] | NDArray[Any]) -> bytes:
    """Encode texts ``[n]`` of valid Unicode."""
    encoded = [text.encode() for text in texts]
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    offsets = np.concatenate([[0], np.cumsum(lengths)]) + OFFSET_BYTES * (len(encoded) + 1)
    return offsets.astype("<i8").tobytes() + b"".join(encoded)


def decode_texts(data: bytes | memoryview) -> NDArray[Any]:
    """Return the texts ``[n]`` of str. Raises Corrupt if ``data`` does not encode texts."""
    whole = memoryview(data)
    offsets = _offsets(whole)
    texts = np.empty(len(offsets) - 1, object)
    try:
        texts[:] = [
            str(whole[start:end], "utf-8")
            for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        ]
    except UnicodeDecodeError as error:
        raise Corrupt("BAD_TEXTS", f"these bytes are no encoded texts: {error}") from error
    return texts


def _offsets(whole: memoryview) -> NDArray[np.int64]:
    size = len(whole)
    first = int.from_bytes(whole[:OFFSET_BYTES], "little", signed=True)
    if not OFFSET_BYTES <= first <= size or first % OFFSET_BYTES:
        raise Corrupt("BAD_TEXTS", f"these {size} bytes are no encoded texts: they lack offsets")
    offsets = np.frombuffer(whole[:first], "<i8").astype(np.int64)
    if offsets[-1] != size or (np.diff(offsets) < 0).any():
        raise Corrupt("BAD_TEXTS", f"these {size} bytes are no encoded texts: their offsets do not add up")
    return offsets
