"""What people and tools write is parsed, or refused with one of labelloop's errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.csv_files.class_rows import read_class_rows
from labelloop.errors import LabelloopError
from labelloop.events.v1.events_pb2 import DatasetSource, RunSpec
from labelloop.http.request_body import json_object
from labelloop_cli.run_spec.fields import to_document
from labelloop_cli.run_spec.file import read_spec, write_spec

from oracle_svc.result_json import read_result
from tests.e2e.nasty import damaged
from tests.e2e.raw_http import odd_json
from tests.examples import drawn

some = drawn(150)
RESULT = {"request_id": "run/0/1/0", "annotator": "kim", "label": 1, "seconds": 1.5, "name": "a.png"}
DEEP = [b"[" * 100_000, b'{"a":' * 100_000, b'{"label": ' + b"9" * 10_000 + b"}", b'{"annotator": "\\ud800"}']
CSV = "\ufeffid;name;class;class_name\n0;a.png;1;two\n1;b.png;;\n2;'=c;0;one\n"


def refused_or_parsed(parse: Callable[[], object]) -> None:
    try:
        parse()
    except LabelloopError as error:
        check(error)


def check(error: LabelloopError) -> None:
    assert error.reason
    assert error.message


@some
@given(damaged(json.dumps(RESULT).encode()) | st.sampled_from(DEEP))
def test_damaged_results_of_tools(data: bytes) -> None:
    refused_or_parsed(lambda: read_result(data))


@some
@given(odd_json(RESULT))
def test_results_of_tools_with_odd_values(result: object) -> None:
    refused_or_parsed(lambda: read_result(json.dumps(result).encode()))


@some
@given(damaged(json.dumps(RESULT).encode()) | st.sampled_from(DEEP))
def test_damaged_bodies_are_objects_or_nothing(data: bytes) -> None:
    assert isinstance(json_object(data), dict | None)


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_damaged_spec_files(suffix: str, tmp_path: Path) -> None:
    spec = RunSpec(dataset=DatasetSource(name="pool.npy", classes=["one", "two"]), label_budget=30, seed=3)
    path = tmp_path / f"spec.{suffix}"
    whole = (write_spec(spec) if suffix == "yaml" else json.dumps(to_document(spec))).encode()

    @some
    @given(damaged(whole) | st.sampled_from(DEEP))
    def check_all(data: bytes) -> None:
        path.write_bytes(data)
        refused_or_parsed(lambda: read_spec(path))

    check_all()


def test_damaged_sheets_of_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"

    @some
    @given(damaged(CSV.encode()) | st.text(alphabet=",;\"\t\r\n\0a1='", max_size=60).map(str.encode))
    def check_all(data: bytes) -> None:
        path.write_bytes(data)
        refused_or_parsed(lambda: list(read_class_rows(path)[0]))

    check_all()
