"""Read annotation results from the JSON that tools send, and the requests that invalid ones name. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import ParseDict, ParseError
from labelloop.domain.ids import RequestId
from labelloop.errors import InvalidInput
from labelloop.oracle.v1.oracle_pb2 import LabelResult

RESULT_BYTES_MAX = 256 * 1024
UNREADABLE = (ValueError, RecursionError, OverflowError, SystemError)  # protobuf does not convert the last two
_NAMED_MAX = 50
_NAMED = re.compile(rb'"request_?[iI]d"\s{0,20}:\s{0,20}"((?:[A-Za-z0-9_-]|\\?/){1,130})"')


def read_result(data: bytes) -> LabelResult:
    """Parse a LabelResult from JSON. Fields that it does not have are ignored.

    Raises InvalidInput if ``data`` is none: not JSON, too large, or with values that its fields do not take.
    """
    if len(data) > RESULT_BYTES_MAX:
        message = f"this result takes {len(data)} bytes: send {RESULT_BYTES_MAX} at most"
        raise InvalidInput("RESULT_TOO_LARGE", message, field="result", most=RESULT_BYTES_MAX)
    try:
        document = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_each_once)
        if not isinstance(document, dict):
            raise ParseError("it is not an object")
        return ParseDict(_known(document, LabelResult.DESCRIPTOR), LabelResult())
    except (ParseError, *UNREADABLE) as error:
        text = " ".join(str(error).split())[:1000].encode(errors="replace").decode()
        raise InvalidInput("MALFORMED", f"this is no label result as JSON: {text}", field="result") from error


def named_requests(data: bytes) -> list[RequestId]:
    """Return the requests that data names in any way, also if it is no JSON; the first 50 of its first 256 KiB."""
    return list(islice(_named(data[:RESULT_BYTES_MAX]), _NAMED_MAX))


def _named(data: bytes) -> Iterator[RequestId]:
    seen: set[bytes] = set()
    for found in _NAMED.finditer(data):
        text = found[1].replace(b"\\", b"")
        if text in seen:
            continue
        seen.add(text)
        try:
            yield RequestId.parse(text.decode("ascii"))
        except InvalidInput:
            continue


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a field is there twice")
    return document


def _known(document: dict[str, Any], descriptor: Descriptor) -> dict[str, Any]:
    """Return the document without the fields that a message of this type does not have."""
    fields = {name: each for each in descriptor.fields for name in (each.name, each.json_name)}
    known = [(fields[name], value) for name, value in document.items() if name in fields]
    return _each_once([(field.name, _pruned(value, field.message_type)) for field, value in known])


def _pruned(value: Any, message_type: Descriptor | None) -> Any:
    if message_type is None or message_type.GetOptions().map_entry or message_type.file.package == "google.protobuf":
        return value
    if isinstance(value, list):
        return [_pruned(each, message_type) for each in value]
    return _known(value, message_type) if isinstance(value, dict) else value
