"""Damaged, odd and oversized variants of a good request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st
from pyroaring import BitMap

_FLOOD = 300_000
_WHOLE = [0, 1, 2, 3, 299, 300, 301, 10_001, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
_FLOATS = [0.0, -0.0, -1.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf")]
_ENUM = [-1, 0, 1, 2, 99, 2**31 - 1]
_TEXTS = [
    "",
    "\0",
    "a\0b",
    " ",
    "\n",
    "*",
    ">",
    "a.b.>",
    "../../../etc/passwd",
    "0" * 64,
    "A" * 64,
    "\u202e\ufffe",
    "x" * 300,
    "x" * 20_000,
    "\U0001f4a5" * 3_000,
    "x" * 2_000_000,
]
_EVERY_ID = BitMap(range(2**32)).serialize()  # under a megabyte
_BYTES = [_EVERY_ID, _EVERY_ID[:-1], BitMap(range(0, 1_000_000, 7)).serialize(), b"\0" * 8, b"\xff" * 100, b":0"]
_WIDTHS = {
    FieldDescriptor.TYPE_UINT32: (0, 2**32),
    FieldDescriptor.TYPE_UINT64: (0, 2**64),
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63),
}

Likely = Mapping[str, Sequence[str]]
"""Likely values of string fields, by the field's name."""


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """``data`` cut short or with a few bytes changed, or any bytes."""
    places = st.integers(0, max(0, len(data) - 1))
    changes = st.dictionaries(places, st.integers(0, 255), min_size=1, max_size=4)
    changed = changes.map(lambda new: bytes(new.get(i, byte) for i, byte in enumerate(data)))
    return st.one_of(places.map(lambda end: data[:end]), changed, st.binary(max_size=200))


@st.composite
def mutations(draw: st.DrawFn, good: Message, likely: Likely) -> Message:
    """``good`` with one to three of its fields, at any depth, set to other values."""
    message = type(good)()
    message.CopyFrom(good)
    for _ in range(draw(st.integers(1, 3))):
        _set(draw, message, likely)
    return message


def floods(good: Message) -> list[Message]:
    """``good`` with each of its repeated fields, at any depth, filled up."""
    flooded = []
    for path in _repeated_fields(good):
        message = type(good)()
        message.CopyFrom(good)
        *above, last = path
        place = message
        for name in above:
            place = getattr(place, name)
        _fill(getattr(place, last.name), last)
        flooded.append(message)
    return flooded


def _set(draw: st.DrawFn, message: Message, likely: Likely) -> None:
    fields: list[Any] = list(message.DESCRIPTOR.fields)
    if not fields:
        return
    chosen = draw(st.sampled_from(fields))
    if _is_map(chosen):
        _put(draw, getattr(message, chosen.name), likely)
    elif chosen.is_repeated:
        del getattr(message, chosen.name)[:]
        _extend(draw, message, chosen, likely)
    elif chosen.type == FieldDescriptor.TYPE_MESSAGE:
        if draw(st.integers(0, 9)):
            _set(draw, getattr(message, chosen.name), likely)
        else:
            message.ClearField(chosen.name)
    else:
        setattr(message, chosen.name, draw(_values(chosen, likely)))


def _is_map(field: Any) -> bool:
    return field.type == FieldDescriptor.TYPE_MESSAGE and bool(field.message_type.GetOptions().map_entry)


def _put(draw: st.DrawFn, values: Any, likely: Likely) -> None:
    """Set values of a map from strings to messages."""
    for key in draw(st.lists(st.sampled_from([*likely.get("key", []), *_TEXTS]), max_size=5)):
        _set(draw, values[key], likely)


def _extend(draw: st.DrawFn, message: Message, chosen: Any, likely: Likely) -> None:
    values = getattr(message, chosen.name)
    count = draw(st.sampled_from([0, 1, 2, 5]))
    if chosen.type == FieldDescriptor.TYPE_MESSAGE:
        for _ in range(count):
            _set(draw, values.add(), likely)
    else:
        values.extend(draw(st.lists(_values(chosen, likely), min_size=count, max_size=count)))


def _values(chosen: Any, likely: Likely) -> st.SearchStrategy[Any]:
    if chosen.type == FieldDescriptor.TYPE_STRING:
        return st.sampled_from([*likely.get(chosen.name, []), *_TEXTS]) | st.text(max_size=20)
    if chosen.type == FieldDescriptor.TYPE_BYTES:
        return st.sampled_from(_BYTES) | st.binary(max_size=100)
    if chosen.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if chosen.type == FieldDescriptor.TYPE_ENUM:
        return st.sampled_from([*_ENUM, *chosen.enum_type.values_by_number])
    if chosen.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return st.sampled_from(_FLOATS) | st.floats()
    least, end = _WIDTHS[chosen.type]  # a field of another type fails here: add its odd values
    return st.sampled_from([value for value in _WHOLE if value < end]) | st.integers(least, end - 1)


def _repeated_fields(message: Message) -> list[list[Any]]:
    paths: list[list[Any]] = []
    for inner in message.DESCRIPTOR.fields:
        if inner.is_repeated:
            paths.append([inner])
        elif inner.type == FieldDescriptor.TYPE_MESSAGE:
            paths += [[inner.name, *path] for path in _repeated_fields(getattr(message, inner.name))]
    return paths


def _fill(values: Any, chosen: Any) -> None:
    if _is_map(chosen):
        for key in range(_FLOOD):
            values[str(key)].SetInParent()
    elif chosen.type == FieldDescriptor.TYPE_MESSAGE:
        for _ in range(_FLOOD):
            values.add()
    else:
        texts = {FieldDescriptor.TYPE_STRING: str, FieldDescriptor.TYPE_BYTES: lambda number: str(number).encode()}
        make: Any = texts.get(chosen.type, int)
        values.extend(map(make, range(_FLOOD)))
