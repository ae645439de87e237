"""Check that bytes have the outline of an ONNX model, without a library for ONNX. Pure functions.

Services without such a library use it before they keep a file as a model. It follows the wire format of protocol
buffers through the model and its graph, field by field: text, arrays, pictures and archives fail at one of the first
bytes. What the nodes compute is left to the scorer, which validates every graph before it runs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from labelloop.errors import InvalidInput, LimitExceeded

_VARINT, _BYTES = 0, 2  # wire types; ONNX's models and graphs have no others
_VARINT_BYTES_MAX = 10
_FIELDS_MAX = 100_000  # of a message: the largest graphs that the scorer takes have a few thousand
_GRAPH, _NODE = 7, 1
_MODEL_FIELDS: Mapping[int, int] = {  # ModelProto: number of a field, and its wire type
    **dict.fromkeys((1, 5), _VARINT),  # ir_version, model_version
    **dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 25, 26), _BYTES),  # names, graph, opsets, metadata, functions
}
_GRAPH_FIELDS = dict.fromkeys((1, 2, 5, 10, 11, 12, 13, 14, 15, 16), _BYTES)  # GraphProto
_NODE_FIELDS: Mapping[int, int] = dict.fromkeys(range(1, 11), _BYTES)  # NodeProto


class _Field(NamedTuple):
    number: int
    start: int  # of the value's bytes
    stop: int


class _Fault(Exception):
    """What is wrong with the bytes."""


def check_outline(data: bytes, origin: str, field: str) -> None:
    """Check that ``data`` is a model with a graph of nodes, inputs and outputs.

    Takes time in proportion to the number of fields, which is bounded, and no memory beside ``data``.

    Args:
        data: The bytes of the file.
        origin: Its name, for errors.
        field: The setting that names it, for errors.

    Raises:
        InvalidInput: They are no such model.
        LimitExceeded: It has more than 100,000 fields in one message.
    """
    try:
        _check_model(memoryview(data), origin, field)
    except _Fault as fault:
        message = f"{field}: {origin} is no ONNX graph ({fault}): export the model to ONNX, and name that file"
        raise InvalidInput("NO_GRAPH", message, field=field, path=origin) from fault


def _check_model(data: memoryview, origin: str, field: str) -> None:
    at_most = _Budget(origin, field)
    found = list(at_most.fields(data, 0, len(data), _MODEL_FIELDS, "the model"))
    graphs = [each for each in found if each.number == _GRAPH]
    if {1, _GRAPH, 8} - {each.number for each in found} or len(graphs) != 1:
        raise _Fault("a model has a version, one graph and a set of operators")
    seen = set[int]()
    for part in at_most.fields(data, graphs[0].start, graphs[0].stop, _GRAPH_FIELDS, "the graph"):
        seen.add(part.number)
        if part.number == _NODE:
            of_node = {each.number for each in at_most.fields(data, part.start, part.stop, _NODE_FIELDS, "a node")}
            if not {2, 4} <= of_node:
                raise _Fault("a node has no output or no operator")
    if not {_NODE, 11, 12} <= seen:
        raise _Fault("a graph has nodes, inputs and outputs")


class _Budget:
    """Reads fields of messages, and refuses a file with too many of them."""

    def __init__(self, origin: str, field: str) -> None:
        self._origin, self._field, self._left = origin, field, _FIELDS_MAX

    def fields(self, data: memoryview, start: int, stop: int, known: Mapping[int, int], what: str) -> Iterator[_Field]:
        """Yield the fields between ``start`` and ``stop``. Raises _Fault for one that is not ``known``."""
        while start < stop:
            self._left -= 1
            if self._left < 0:
                message = f"{self._field}: {self._origin} has more than {_FIELDS_MAX:,} fields: simplify the graph"
                raise LimitExceeded("GRAPH_TOO_LARGE", message, field=self._field, path=self._origin)
            key, place = _varint(data, start, stop)
            number, kind = key >> 3, key & 7
            if known.get(number) != kind:
                raise _Fault(f"byte {start:,} begins a field that {what} does not have")
            value, place = _varint(data, place, stop)
            start = place + value if kind == _BYTES else place
            if start > stop:
                raise _Fault(f"it is cut short: {what} ends before byte {start:,}")
            yield _Field(number, place, start)


def _varint(data: memoryview, start: int, stop: int) -> tuple[int, int]:
    """Return the number at ``start``, and the place behind it."""
    value = 0
    for place in range(start, min(stop, start + _VARINT_BYTES_MAX)):
        value |= (data[place] & 0x7F) << 7 * (place - start)
        if data[place] < 0x80:
            return value, place + 1
    raise _Fault(f"the number at byte {start:,} does not end")
