"""Requests of the Open Inference Protocol over HTTP: JSON and binary data, sound and hostile."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from labelloop.errors import InvalidInput, LimitExceeded
from labelloop.scorer.v1.scorer_pb2 import ScoreResponse

from scorer_svc.inference.naming import Named
from scorer_svc.inference.outputs import NAMES, outputs_of
from scorer_svc.inference.rest_messages import JSON_BYTES_MAX, RestRequest, read_request, write_response

RAW = bytes(range(6))
TENSOR = {"name": "samples", "datatype": "UINT8", "shape": [1, 6]}


def asked(*, tensor: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"inputs": [{**TENSOR, "data": list(RAW), **(tensor or {})}], **more}


def read(value: Any) -> RestRequest:
    return read_request(json.dumps(value).encode(), None)


def values(request: RestRequest, count: int = 6) -> Any:
    [tensor] = request.inputs
    return tensor.read(count).values


@pytest.mark.parametrize("data", [list(RAW), [list(RAW)], [[list(RAW[:3]), list(RAW[3:])]]])
def test_data_may_be_nested_as_the_shape_is_or_flat(data: list[Any]) -> None:
    assert values(read(asked(tensor={"data": data}))) == RAW


def test_floats_may_be_missing_and_texts_are_in_rows_or_columns() -> None:
    numbers = read_request(
        json.dumps(asked(tensor={"datatype": "FP32", "data": [0.1, 2, float("nan")]})).encode(), None
    )
    assert values(numbers, 3) == np.array([0.1, 2, np.nan], "<f4").tobytes()
    for data in (["a", "ä"], [["a"], ["ä"]]):
        assert values(read(asked(tensor={"datatype": "BYTES", "data": data})), 2) == ["a", "ä"]


def binary(size: object = 6, *, header: int | None = None, raw: bytes = RAW, **tensor: Any) -> RestRequest:
    head = json.dumps({"inputs": [{**TENSOR, "parameters": {"binary_data_size": size}, **tensor}]}).encode()
    return read_request(head + raw, len(head) if header is None else header)


def test_binary_data_follows_the_json() -> None:
    assert values(binary()) == RAW


@pytest.mark.parametrize(
    "options",
    [
        {"size": 5},
        {"size": 7},
        {"size": -1},
        {"size": 2**64},
        {"size": True},
        {"size": "6"},
        {"size": 6.0},
        {"header": 0},
        {"header": 10},
        {"header": 10**9},
        {"raw": RAW[:3]},
        {"raw": RAW + b"x"},
        {"data": [1]},
    ],
)
def test_lengths_that_do_not_fit_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        binary(**options)


BODIES = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b"[" * 1_000_000,
    b'{"a":' * 100_000,
    b'{"inputs": [{}]}',
    b'{"inputs": {}}',
    b'{"inputs": [1]}',
    b'{"inputs": [{"name": "samples", "datatype": "UINT8", "shape": [1, 6.0]}]}',
    b'{"inputs": [{"name": "samples", "datatype": "UINT8", "shape": [true, 6]}]}',
    b'{"inputs": [{"name": 1, "datatype": "UINT8", "shape": [1, 6]}]}',
    b'{"inputs": [], "id": 3}',
    b'{"inputs": [], "parameters": []}',
    b'{"inputs": [], "parameters": {"binary_data_output": "yes"}}',
    b'{"inputs": [], "outputs": [{"name": "predicted", "parameters": {"binary_data": 1}}]}',
    b'{"inputs": [], "outputs": [{"name": "x"}]}',
    b'{"inputs": [], "outputs": ["predicted"]}',
    b'{"inputs": [], "outputs": [{"name": "predicted", "parameters": {"classification": 3}}]}',
    b'{"id": ' + b"1" * 100_000 + b"}",
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:40].decode("latin-1"))
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_request(body, None)
    assert len(caught.value.message) < 1_000


def test_more_json_than_is_read_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(LimitExceeded, match="binary data"):
        read_request(b"[" * (JSON_BYTES_MAX + 1), None)


@pytest.mark.parametrize(
    "data",
    [
        *([256] * 6, [-1] * 6, [1.0] * 6, [True] * 6, ["1"] * 6, [None] * 6, [2**70] * 6, [[1, 2], [3]], [{}] * 6),
        *("abcdef", None, {}, [[]], [1e400] * 6),
    ],
    ids=str,
)
def test_values_that_are_no_pixels_are_refused(data: Any) -> None:
    with pytest.raises(InvalidInput):
        values(read(asked(tensor={"data": data})))


@pytest.mark.parametrize("data", [["1"] * 6, [None] * 6, [True] * 6, [2**70] * 6, [[1.0, 2], [3]]], ids=str)
def test_values_that_are_no_numbers_are_refused(data: Any) -> None:
    with pytest.raises(InvalidInput):
        values(read(asked(tensor={"datatype": "FP32", "data": data})))


@pytest.mark.parametrize("data", [[1], [["a", "b"]], [["a"], "b", "c"], [None], ["a"] * 7])
def test_values_that_are_no_texts_are_refused(data: Any) -> None:
    with pytest.raises(InvalidInput):
        values(read(asked(tensor={"datatype": "BYTES", "data": data})), 1)


def test_a_long_text_among_many_takes_no_more_memory_than_they_do() -> None:
    data = ["x" * 1_000_000, *[""] * 50_000]
    assert values(read(asked(tensor={"datatype": "BYTES", "data": data})), len(data)) == data


NAMED = Named("run", "3", "d" * 64)
SCORED = ScoreResponse(predicted=[1, 0], confidence=[0.75, 0.9], probabilities=[0.25, 0.75, 0.9, 0.1])


def written(**more: Any) -> tuple[dict[str, Any], bytes]:
    request = read(asked(**more))
    body, json_bytes = write_response(NAMED, request, outputs_of(SCORED, request.outputs))
    assert (json_bytes is not None) == bool(request.binary)
    end = len(body) if json_bytes is None else json_bytes
    return json.loads(body[:end]), body[end:]


def test_answers_name_the_model_and_repeat_the_id() -> None:
    told, rest = written(id="ä")
    assert rest == b""
    outputs = told.pop("outputs")
    parameters = {"model_sha256": "d" * 64}
    assert told == {"model_name": "run", "model_version": "3", "id": "ä", "parameters": parameters}
    assert [each["name"] for each in outputs] == list(NAMES)
    assert [each["shape"] for each in outputs] == [[2], [2], [2, 2]]
    assert outputs[0]["data"] == [1, 0]
    assert np.array(outputs[2]["data"], np.float32).tolist() == list(SCORED.probabilities)
    assert "id" not in written()[0]


def test_only_outputs_that_are_asked_for_are_given_in_their_order() -> None:
    told, _ = written(outputs=[{"name": "confidence"}, {"name": "predicted"}])
    assert [each["name"] for each in told["outputs"]] == ["confidence", "predicted"]


def test_outputs_may_be_binary_each_or_all() -> None:
    told, rest = written(outputs=[{"name": "predicted", "parameters": {"binary_data": True}}, {"name": "confidence"}])
    assert rest == np.array([1, 0], "<i8").tobytes()
    assert told["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert "data" in told["outputs"][1]
    told, rest = written(parameters={"binary_data_output": True})
    assert len(rest) == sum(each["parameters"]["binary_data_size"] for each in told["outputs"]) == 16 + 8 + 16
    told, rest = written(
        parameters={"binary_data_output": True}, outputs=[{"name": "predicted", "parameters": {"binary_data": False}}]
    )
    assert rest == b""


def test_many_values_are_written_without_a_seam() -> None:
    count = 50_001
    scored = ScoreResponse(predicted=range(count), confidence=np.arange(count) / 8, probabilities=np.arange(count) / 4)
    request = read(asked())
    body, _ = write_response(NAMED, request, outputs_of(scored, request.outputs))
    assert json.loads(body)["outputs"][0]["data"] == list(range(count))
