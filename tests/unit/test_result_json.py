"""Results as JSON: what is read, what is ignored, and which requests invalid ones name."""

from __future__ import annotations

import json

import pytest
from labelloop.domain.ids import RequestId
from labelloop.errors import InvalidInput
from labelloop.oracle.v1.oracle_pb2 import LabelResult

from oracle_svc.result_json import RESULT_BYTES_MAX, named_requests, read_result


@pytest.mark.parametrize(
    "more", [{"tool_version": "3"}, {"box": [1, {"x": [2]}]}, {"": None}, {"__proto__": {}}], ids=str
)
def test_unknown_fields_are_ignored(more: dict[str, object]) -> None:
    said = {"request_id": "r/0/7/0", "label": 0, "annotator": "kim"}
    assert read_result(json.dumps(said | more).encode()) == LabelResult(request_id="r/0/7/0", label=0, annotator="kim")


def test_both_spellings_of_a_field_and_a_byte_order_mark_are_read() -> None:
    data = b'\xef\xbb\xbf{"requestId": "r/0/7/0", "className": "cat", "time_spent_s": 2}'
    assert read_result(data) == LabelResult(request_id="r/0/7/0", class_name="cat", time_spent_s=2)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{no json",
        b"[]",
        b"7",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": ' * 20_000,
        b'{"label": ' + b"1" * 5000 + b"}",
        b'{"request_id": 7}',
        b'{"request_id": "r/0/7/0", "skip": "SKIP_KIND_OTHER"}',
        b'{"request_id": "r/0/7/0", "skip": "\\ud800"}',
        b'{"request_id": "r/0/7/0", "comment": "\\ud800"}',
        b'{"request_id": "r/0/7/0", "skip": Infinity}',
        b'{"request_id": "r/0/7/0", "time_spent_s": 1' + b"0" * 400 + b"}",
        b'{"request_id": "r/0/7/0", "label": -1}',
        b'{"request_id": "r/0/7/0", "label": 1, "class_name": "cat"}',
        b'{"request_id": "r/0/7/0", "label": 1, "label": 2}',
        b'{"request_id": "r/0/7/0", "label": 1, "requestId": "r/0/8/0"}',
    ],
    ids=lambda data: data[:40].decode(errors="replace"),
)
def test_what_is_no_result_is_malformed(data: bytes) -> None:
    with pytest.raises(InvalidInput) as raised:
        read_result(data)
    assert raised.value.reason == "MALFORMED"
    assert len(raised.value.message.encode()) < 1100


def test_a_result_beyond_its_limit_is_not_parsed() -> None:
    with pytest.raises(InvalidInput) as raised:
        read_result(b'{"request_id": "r/0/7/0", "label": 1}' + b" " * RESULT_BYTES_MAX)
    assert raised.value.reason == "RESULT_TOO_LARGE"


@pytest.mark.parametrize(
    "data",
    [
        b'{"request_id": "r/0/7/0", "label": "x"}',
        b'{"requestId" : "r/0/7/0", "label": 1,}',
        b'{"request_id": "r\\/0\\/7\\/0"',
        b'[{"request_id": "r/0/7/0"}]',
        b'{"type": "label.submitted", "data": {"results": [{"request_id": "r/0/7/0", "label": 1}]}}',
        b'\xff{"request_id": "r/0/7/0"}',
    ],
)
def test_the_request_is_found_in_any_json(data: bytes) -> None:
    assert named_requests(data) == [RequestId("r", 0, 7, 0)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"request_id": 7}',
        b'{"request_id": "r/0/x"}',
        rb'{"comment": "say \"request_id\": \"r/0/7/0\""}',
        b'"request_id": "' + b"r/" * 200_000,
    ],
    ids=lambda data: data[:40].decode(),
)
def test_no_request_is_found_where_none_is_named(data: bytes) -> None:
    assert named_requests(data) == []


def test_named_requests_are_bounded() -> None:
    data = b",".join(b'"request_id": "r/0/%d/0"' % i for i in range(1000))
    assert len(named_requests(data)) == 50
    assert named_requests(data + data[:24])[0] == RequestId("r", 0, 0, 0)
