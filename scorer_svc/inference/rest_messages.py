"""Read and write requests of the Open Inference Protocol over HTTP: JSON, with tensors as binary data behind it.

Pure functions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from labelloop.errors import InvalidInput, LimitExceeded
from numpy.typing import NDArray

from scorer_svc.inference.naming import Named
from scorer_svc.inference.outputs import OUTPUT_DATATYPES, Output, wanted_outputs
from scorer_svc.inference.parameters import check_parameters
from scorer_svc.inference.tensors import Tensor, check_text_count, texts_of

JSON_BYTES_MAX = 4 * 1024 * 1024  # parsed, it takes many times as much
_VALUES_AT_ONCE = 20_000  # written as JSON in a millisecond or two


class RestTensor:
    """A posted tensor; its elements are JSON ``data`` or the bytes ``raw``."""

    def __init__(self, posted: Mapping[str, Any], raw: bytes | None) -> None:
        self.name, self.datatype = _text(posted, "name"), _text(posted, "datatype")
        self.shape: Sequence[int] = _shape(posted)
        self._data, self._raw = posted.get("data"), raw
        if raw is not None:
            self.value_count = len(raw) // 4 if self.datatype == "BYTES" else 0
        else:
            self.value_count = math.prod(self.shape) if all(0 < size < 2**31 for size in self.shape) else 0

    def read(self, count: int) -> Tensor:
        """Read the elements. InvalidInput if there are not ``count`` of them, or of another type."""
        if self._raw is not None:
            values = texts_of(self._raw, count) if self.datatype == "BYTES" else self._raw
            return Tensor(self.name, self.datatype, self.shape, values)
        if not isinstance(self._data, list):
            raise _bad(f"input {self.name[:100]!r} has neither a list `data` nor a binary_data_size")
        values = _texts(self._data, count) if self.datatype == "BYTES" else self._numbers(self._data)
        return Tensor(self.name, self.datatype, self.shape, values)

    def _numbers(self, data: list[Any]) -> bytes:
        try:
            array = np.asarray(data)
        except ValueError as error:
            raise _bad(f"`data` of input {self.name!r} is no array: {error}") from error
        if self.datatype == "UINT8":
            if array.dtype.kind not in "iu" or (array.size and not 0 <= array.min() <= array.max() <= 255):
                raise _bad(f"`data` of input {self.name!r} must be whole numbers from 0 to 255, as UINT8 are")
            return array.astype(np.uint8).tobytes()
        if array.dtype.kind not in "iuf":
            raise _bad(f"`data` of input {self.name!r} must be numbers, as FP32 are")
        with np.errstate(over="ignore"):  # what is too large is infinite, and refused as that
            return array.astype("<f4").tobytes()


class RestRequest(NamedTuple):
    """A request.

    Attributes:
        id: Any text, which the answer repeats; None if there is none.
        inputs: The tensors.
        outputs: Names of the outputs to give.
        binary: Those of them whose elements are to be sent as binary data.
    """

    id: str | None
    inputs: list[RestTensor]
    outputs: tuple[str, ...]
    binary: frozenset[str]


def read_request(body: bytes, json_bytes: int | None) -> RestRequest:
    """Parse a body whose first ``json_bytes`` bytes are JSON, and the rest binary data; None if all is JSON.

    Raises:
        InvalidInput: It is no request of the protocol.
        LimitExceeded: The JSON is too large.
    """
    end = len(body) if json_bytes is None else json_bytes
    if not 0 <= end <= len(body):
        raise _bad(f"Inference-Header-Content-Length is {end}: the body has {len(body)} bytes")
    if end > JSON_BYTES_MAX:
        message = f"the JSON has {end:,} bytes, more than {JSON_BYTES_MAX:,}: send tensors as binary data"
        raise LimitExceeded("JSON_TOO_LARGE", message, most=JSON_BYTES_MAX)
    asked = _object(body[:end])
    parameters = _parameters(asked)
    check_parameters("parameters", "", parameters)
    id_ = asked.get("id")
    if id_ is not None and not isinstance(id_, str):
        raise _bad("`id` must be a string")
    outputs = _list(asked, "outputs", optional=True)
    names = [_text(each, "name") for each in outputs]
    default = parameters.get("binary_data_output", False)
    flags = [_parameters(each).get("binary_data", default) for each in outputs]
    for name, each in zip(names, outputs, strict=True):
        check_parameters("outputs", name, _parameters(each))
    wanted = wanted_outputs(names)
    if not all(isinstance(flag, bool) for flag in (default, *flags)):
        raise _bad("binary_data and binary_data_output must be true or false")
    binary = frozenset(name for name, flag in zip(names, flags, strict=True) if flag) if names else frozenset(wanted)
    binary = binary if names or default else frozenset()
    return RestRequest(id_, _inputs(asked, memoryview(body)[end:]), wanted, binary)


def _inputs(asked: Mapping[str, Any], rest: memoryview) -> list[RestTensor]:
    made, start = [], 0
    for each in _list(asked, "inputs"):
        parameters = _parameters(each)
        check_parameters("inputs", _text(each, "name"), parameters)
        size = parameters.get("binary_data_size")
        if size is None:
            made.append(RestTensor(each, None))
            continue
        if type(size) is not int or not 0 <= size <= len(rest) - start or "data" in each:
            left = len(rest) - start
            raise _bad(f"binary_data_size is {str(size)[:100]}: {left} bytes of binary data are left, and no `data`")
        made.append(RestTensor(each, bytes(rest[start : start + size])))
        start += size
    if start != len(rest):
        raise _bad(f"{len(rest) - start} bytes of binary data belong to no input")
    return made


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _bad(f"the body is not JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise _bad("the body is no JSON object")
    return value


def _list(asked: Mapping[str, Any], key: str, *, optional: bool = False) -> list[Mapping[str, Any]]:
    value = asked.get(key)
    if value is None and optional:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise _bad(f"`{key}` must be a list of objects")
    return value


def _parameters(of: Mapping[str, Any]) -> Mapping[str, Any]:
    value = of.get("parameters")
    if value is not None and not isinstance(value, dict):
        raise _bad("`parameters` must be an object")
    return value or {}


def _text(of: Mapping[str, Any], key: str) -> str:
    value = of.get(key)
    if not isinstance(value, str):
        raise _bad(f"`{key}` of a tensor must be a string")
    return value


def _shape(of: Mapping[str, Any]) -> list[int]:
    value = of.get("shape")
    if not isinstance(value, list) or not all(type(size) is int for size in value):
        raise _bad("`shape` of a tensor must be a list of whole numbers")
    return value


def _texts(data: list[Any], count: int) -> list[str]:
    """Return the strings in ``data``, or in lists of one in it. InvalidInput unless there are ``count``."""
    check_text_count(count)
    flat = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in data]
    if len(flat) != count or not all(isinstance(each, str) for each in flat):
        raise _bad(f"`data` holds {len(flat):,} elements: there must be {count:,} strings, as many as the shape says")
    return flat


def _bad(message: str) -> InvalidInput:
    return InvalidInput("BAD_REQUEST", message, field="body")


def write_response(named: Named, request: RestRequest, outputs: Sequence[Output]) -> tuple[bytes, int | None]:
    """Return the body of an answer, and of how many bytes its JSON is; None if all of it is JSON."""
    head: dict[str, Any] = {
        "model_name": named.name,
        "model_version": named.version,
        "parameters": {"model_sha256": named.digest},
    }
    if request.id is not None:
        head["id"] = request.id
    parts, raw = [json.dumps(head)[:-1], ', "outputs": ['], []
    for place, each in enumerate(outputs):
        parts.append(", " if place else "")
        told: dict[str, Any] = {
            "name": each.name,
            "datatype": OUTPUT_DATATYPES[each.name],
            "shape": list(each.values.shape),
        }
        if each.name in request.binary:
            raw.append(each.values.tobytes())
            parts.append(json.dumps({**told, "parameters": {"binary_data_size": len(raw[-1])}}))
        else:
            parts += (json.dumps(told)[:-1], ', "data": [', *_numbers(each.values), "]}")
    text = "".join((*parts, "]}")).encode()
    return b"".join((text, *raw)), len(text) if raw else None


def _numbers(values: NDArray[Any]) -> Iterator[str]:
    """Yield numbers as JSON without brackets, some at a time: other threads wait for each."""
    flat = values.reshape(-1)
    for start in range(0, len(flat), _VALUES_AT_ONCE):
        yield (", " if start else "") + json.dumps(flat[start : start + _VALUES_AT_ONCE].tolist())[1:-1]
