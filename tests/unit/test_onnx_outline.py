"""The first check of a feature graph, which the oracle makes before it keeps the bytes of a file."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.artifacts.onnx_outline import check_outline
from labelloop.errors import InvalidInput, LimitExceeded
from onnx import TensorProto, helper

from oracle_svc.datasets import DatasetSource, load
from tests.sentence_graph import sentence_graph

PASSWD = b"root:x:0:0:root:/root:/bin/bash\n" * 20
ENVIRONMENT = b"PATH=/bin\0LABELLOOP_HTTP_TOKEN=s3cret\0LABELLOOP_HTTP_SECRET=whsec_abc\0"


def graph() -> bytes:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "y")]
    node = helper.make_node("Relu", ["x"], ["y"])
    return helper.make_model(helper.make_graph([node], "g", [value[0]], [value[1]])).SerializeToString()


def npy(array: object) -> bytes:
    output = io.BytesIO()
    np.save(output, np.asarray(array))
    return output.getvalue()


def archive() -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as made:
        made.writestr("a.txt", "hello")
    return output.getvalue()


@pytest.mark.parametrize("data", [graph(), sentence_graph({"cat": [1.0]}), sentence_graph({"a": [0.5]}, lower=True)])
def test_a_graph_has_the_outline_of_one(data: bytes) -> None:
    check_outline(data, "g.onnx", "graph")


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", PASSWD, ENVIRONMENT, npy([0, 1, 2]), archive(), b"id,class\n0,cat\n", graph()[:-1], graph() + b"\n"],
)
def test_files_of_other_kinds_have_not(data: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"g\.onnx is no ONNX graph \(.+\): export the model") as refused:
        check_outline(data, "g.onnx", "graph")
    assert (refused.value.reason, refused.value.field) == ("NO_GRAPH", "graph")


@pytest.mark.parametrize("lacking", ["graph", "opset_import", "ir_version"])
def test_a_model_without_a_part_is_refused(lacking: str) -> None:
    model = onnx.load_model_from_string(graph())
    model.ClearField(lacking)
    with pytest.raises(InvalidInput, match="a model has a version"):
        check_outline(model.SerializeToString(), "g.onnx", "graph")


def test_fields_that_models_do_not_have_are_refused() -> None:
    stray = b"\xfa\x3f\x20" + b"s3cret labels: 0101010101".ljust(32)  # field 1023, of bytes
    for data in (graph() + stray, stray + graph()):
        with pytest.raises(InvalidInput, match="begins a field that the model does not have"):
            check_outline(data, "g.onnx", "graph")


def test_millions_of_empty_fields_are_refused_within_a_second() -> None:
    model = onnx.load_model_from_string(graph())
    begin = time.process_time()
    with pytest.raises(LimitExceeded, match="more than 100,000 fields"):
        check_outline(graph() + b"\x42\0" * 4_000_000, "g.onnx", "graph")
    model.graph.value_info.extend(onnx.ValueInfoProto() for _ in range(200_000))
    with pytest.raises(LimitExceeded, match="more than 100,000 fields"):
        check_outline(model.SerializeToString(), "g.onnx", "graph")
    assert time.process_time() - begin < 2


def damaged(at: int, byte: bytes) -> bytes:
    return graph()[:at] + byte + graph()[at + 1 :]


@given(st.binary(max_size=300) | st.builds(damaged, st.integers(0, len(graph())), st.binary(max_size=2)))
def test_any_bytes_are_a_graph_or_no_graph(data: bytes) -> None:
    try:
        check_outline(data, "g.onnx", "graph")
    except InvalidInput as refused:
        reason = refused.reason
    else:
        reason = "NO_GRAPH"
    assert reason == "NO_GRAPH"


@pytest.mark.parametrize("data", [PASSWD, ENVIRONMENT, npy(np.zeros(4, np.int64))])
def test_a_dataset_never_carries_the_bytes_of_another_file_as_its_graph(tmp_path: Path, data: bytes) -> None:
    np.save(tmp_path / "pool.npy", np.zeros((4, 2), np.float32))
    (tmp_path / "secret").write_bytes(data)
    source = DatasetSource(str(tmp_path / "pool.npy"), classes=("a", "b"), graph=str(tmp_path / "secret"))
    with pytest.raises(InvalidInput, match="is no ONNX graph"):
        load(source, data_dir=None, cache_dir=tmp_path / "cache")
