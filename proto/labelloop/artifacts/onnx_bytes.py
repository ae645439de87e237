"""Walk the bytes of an ONNX model within bounds, before any parser sees them. Pure functions.

A parser makes up to a hundred bytes of memory out of two bytes of an empty message, and the checkers of ONNX take
microseconds for each; so fields are counted first. The bytes of weights, which are most of a model and which no check
needs, are left out of what is returned: parsers hold Python's lock while they copy them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from labelloop.artifacts.onnx_fields import Field, fields_of
from labelloop.artifacts.onnx_lists import run_of

_FIELDS_MAX = 1_000_000  # in all, besides numbers and strings in the lists of attributes
_LISTED_MAX = 6_000_000  # of these: terms and their numbers
_VARINT_BYTES_MAX = 10
_KEPT_BYTES = 1_024  # weights of at most this size are kept: shapes and axes are among them
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED: Mapping[int, int] = {_FIXED64: 8, _FIXED32: 4}


class Lean(NamedTuple):
    """A model without the bytes of its weights.

    Attributes:
        data: the serialised model, the raw data of large weights and all metadata left out.
        weight_bytes: the size of the raw data of each initializer, in their order, before any was left out.
    """

    data: bytes
    weight_bytes: list[int]


def lean(data: bytes) -> Lean:
    """Return the model ``data`` without the bytes of its large weights.

    Raises:
        ValueError: ``data`` is no ONNX, has more messages or fields than a model has use for, or fields that no plain
            graph has; the message names the field.
    """
    walk = _Walk(data)
    kept = walk.message("ModelProto", 0, len(data))
    return Lean(data if kept is None else kept, walk.weight_bytes)


class _Walk:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._counts: Counter[str] = Counter()
        self._fields = self._listed = 0
        self.weight_bytes: list[int] = []

    def message(self, kind: str, at: int, end: int) -> bytes | None:
        """Check the message from ``at`` to ``end``, and return what is kept of it, or None if that is all."""
        known, seen, kept, copied, raw_bytes = fields_of(kind), set[int](), list[bytes](), at, 0
        while at < end:
            if kind == "AttributeProto" and (run := run_of(self._data, at, end)).items:
                at = run.end
                self._list(run.items)
                continue
            start = at
            tag, at = self._varint(at, end)
            field = known.get(tag >> 3)
            if field is None:
                raise ValueError(f"it is no ONNX: {kind} has no field {tag >> 3}")
            self._count(field, seen)
            at, body = self._extent(field, tag & 7, at, end)
            inner = self.message(field.message, body, at) if field.message else None
            if field.name == "raw_data":
                raw_bytes = at - body
            if not field.is_kept or (raw_bytes > _KEPT_BYTES and field.name == "raw_data"):
                kept.append(self._data[copied:start])
                copied = at
            elif inner is not None:
                kept += (self._data[copied:start], _encoded(tag), _encoded(len(inner)), inner)
                copied = at
        if kind == "TensorProto":
            self.weight_bytes.append(raw_bytes)
        return b"".join([*kept, self._data[copied:end]]) if kept else None

    def _count(self, field: Field, seen: set[int]) -> None:
        if field.refused:
            raise ValueError(f"{field.refused} ({field.full_name})")
        if not field.is_repeated:
            if field.number in seen:
                raise ValueError(f"it is no ONNX: it has {field.full_name} twice in one message")
            seen.add(field.number)
        self._fields += 1
        self._counts[field.full_name] += 1
        if self._counts[field.full_name] > field.most:
            raise ValueError(f"it has more than {field.most:,} of {field.full_name}, and no model needs so many")
        if self._fields > _FIELDS_MAX:
            raise ValueError(f"it has more than {_FIELDS_MAX:,} fields")

    def _list(self, count: int) -> None:
        self._listed += count
        if self._listed > _LISTED_MAX:
            raise ValueError(f"it has more than {_LISTED_MAX:,} numbers and strings in its attributes")

    def _extent(self, field: Field, wire: int, at: int, end: int) -> tuple[int, int]:
        """Return where the field ends, and where its body begins."""
        packed = wire == _BYTES and field.wire != _BYTES and field.is_repeated
        if wire != field.wire and not packed:
            raise ValueError(f"it is no ONNX: {field.full_name} is of wire type {wire}, not {field.wire}")
        if wire == _VARINT:
            after, body = self._varint(at, end)[1], at
        else:
            size, body = (_FIXED[wire], at) if wire in _FIXED else self._varint(at, end)
            after = body + size
        if after > end:
            raise ValueError(f"it is no ONNX: it is cut short in {field.full_name}")
        if packed:
            self._list((after - body) // _FIXED.get(field.wire, 1))
        return after, body

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        for place in range(at, min(end, at + _VARINT_BYTES_MAX)):
            byte = self._data[place]
            value |= (byte & 127) << shift
            if byte < 128:
                return value, place + 1
            shift += 7
        raise ValueError("it is no ONNX: a number in it is cut short")


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
