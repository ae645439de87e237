"""Recognise pictures with more than 8 bits a channel, which Pillow reduces to 8 without a word."""

from __future__ import annotations

import re
from typing import Any, BinaryIO

from PIL import Image

_DEEP_RAW_MODE = re.compile(r".*;(16|32|64)[BLNS]+")  # but not "BGR;16", which is 16 bits for all three channels
_SIZ_MARKER = b"\xff\x4f\xff\x51"  # begins a JPEG 2000 codestream
_HEAD_BYTES = 64 * 1024
_AV1_CONFIGURATION = b"av1C"  # a box of AVIF
_AV1_FLAGS_OFFSET = 6  # from the box's name: behind it are its version, and profile and level
_HIGH_DEPTH, _TWELVE_BITS = 0x40, 0x20
_PRECISION_OFFSET = 42  # of the first component's bits less 1, from the marker


def is_deep(image: Image.Image, file: BinaryIO) -> bool:
    """Return whether ``image``, opened from ``file``, has more than 8 bits a channel.

    AVIF counts as 8 bits: its pictures state their true depth, so that the decoder's conversion keeps 256 levels. See
    :func:`reduced_bits`.
    """
    if image.mode[0] in "IF":  # 16 or 32 bits
        return True
    if image.format == "JPEG2000":
        return _is_deep_codestream(_beginning(file))
    return any(_is_deep_tile(tile) for tile in getattr(image, "tile", ()))


def reduced_bits(image: Image.Image, file: BinaryIO) -> int:
    """Return how many bits a channel an AVIF picture has that is read with 8; 0 for others."""
    head = _beginning(file) if image.format == "AVIF" else b""
    start = head.find(_AV1_CONFIGURATION)
    flags = head[start + _AV1_FLAGS_OFFSET : start + _AV1_FLAGS_OFFSET + 1] if start >= 0 else b""
    if not flags or not flags[0] & _HIGH_DEPTH:
        return 0
    return 12 if flags[0] & _TWELVE_BITS else 10


def _is_deep_tile(tile: Any) -> bool:
    codec, arguments = tile[0], tile[3] if isinstance(tile[3], tuple) else (tile[3],)
    if codec == "SGI16":
        return True
    if codec in ("ppm", "ppm_plain"):  # their last argument is the largest value
        return isinstance(arguments[-1], int) and arguments[-1] > 255
    return any(isinstance(argument, str) and _DEEP_RAW_MODE.fullmatch(argument) for argument in arguments)


def _beginning(file: BinaryIO) -> bytes:
    position = file.tell()
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    file.seek(position)
    return head


def _is_deep_codestream(head: bytes) -> bool:
    start = head.find(_SIZ_MARKER)
    precision = head[start + _PRECISION_OFFSET : start + _PRECISION_OFFSET + 1] if start >= 0 else b""
    return bool(precision) and (precision[0] & 0x7F) + 1 > 8
