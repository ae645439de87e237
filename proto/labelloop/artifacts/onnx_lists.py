"""Count the numbers and strings in the lists of an attribute of ONNX, without a step of Python for each number."""

from __future__ import annotations

import re
from typing import NamedTuple

_INT_TAG, _FLOAT_TAG, _STRING_TAG = 0x40, 0x3D, 0x4A  # AttributeProto.ints, floats and strings, not packed
_FLOAT_BYTES = 5  # with its tag
_RUNS = {
    _INT_TAG: re.compile(rb"(?:\x40[\x80-\xff]{0,9}[\x00-\x7f])+"),
    _FLOAT_TAG: re.compile(rb"(?:\x3d.{4})+", re.DOTALL),
}
_WINDOW_BYTES = 65_536  # a search holds Python's lock
_LARGE = bytes(range(128, 256))
_STRINGS_AT_ONCE = 65_536


class Run(NamedTuple):
    """A run of list items: where it ends, and how many they are."""

    end: int
    items: int


def run_of(data: bytes, at: int, end: int) -> Run:
    """Return the list items of one kind that stand at ``at`` one after the other; none of them if there are none."""
    tag = data[at]
    if tag == _STRING_TAG:
        return _strings(data, at, end)
    pattern = _RUNS.get(tag)
    found = pattern.match(data, at, min(end, at + _WINDOW_BYTES)) if pattern else None
    if not found:
        return Run(at, 0)
    if tag == _FLOAT_TAG:
        return Run(found.end(), (found.end() - at) // _FLOAT_BYTES)
    small = len(found[0].translate(None, _LARGE))  # each number has two such bytes: its tag, and its last
    return Run(found.end(), small // 2)


def _strings(data: bytes, at: int, end: int) -> Run:
    """Pass strings of fewer than 128 bytes, whose size is one byte."""
    count = 0
    while count < _STRINGS_AT_ONCE and at + 1 < end and data[at] == _STRING_TAG and (size := data[at + 1]) < 128:
        if at + 2 + size > end:
            break
        at += 2 + size
        count += 1
    return Run(at, count)
