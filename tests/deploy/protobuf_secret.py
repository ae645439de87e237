"""Secrets as `kubectl create secret` sends them: protobuf behind a magic number. Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

MAGIC = b"k8s\0"


def decoded(data: bytes) -> dict[str, Any]:
    """Return the Secret as JSON has it (k8s.io/api/core/v1/generated.proto: metadata 1, data 2, type 3)."""
    [raw] = [value for number, value in _fields(data.removeprefix(MAGIC)) if number == 2]
    [metadata] = [dict(_fields(value)) for number, value in _fields(raw) if number == 1]
    pairs = [dict(_fields(value)) for number, value in _fields(raw) if number == 2]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": metadata[1].decode()},
        "data": {pair[1].decode(): b64encode(pair[2]).decode() for pair in pairs},
    }


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the numbers and values of the fields that have a length, which are all that matter here."""
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        length, at = _number(data, at)  # of other fields: the value
        if tag & 7 == 2:
            yield tag >> 3, data[at : at + length]
            at += length


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Read a varint; return it and where it ends."""
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if not data[at - 1] & 128:
            return value, at
