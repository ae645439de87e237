"""Bounds on the bytes of a model, before any parser sees them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.artifacts.onnx_bytes import lean
from labelloop.artifacts.onnx_fields import fields_of
from labelloop.artifacts.onnx_lists import run_of
from labelloop.errors import InvalidInput
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from scorer_svc.models.graph import Graph
from trainer_svc.model.onnx_export import to_onnx

OURS = to_onnx(np.random.default_rng(0).random((10, 785)).astype(np.float32), "uint8")
BOMB_BYTES = 2_000_000


def number(kind: str, name: str) -> int:
    return next(field.number for field in fields_of(kind).values() if field.name == name)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def framed(kind: str, name: str, body: bytes = b"") -> bytes:
    return varint(number(kind, name) << 3 | 2) + varint(len(body)) + body


def repeated(kind: str, name: str) -> bytes:
    one = framed(kind, name)
    return one * (BOMB_BYTES // len(one))


def in_graph(body: bytes) -> bytes:
    return framed("ModelProto", "graph", body)


def in_attribute(body: bytes) -> bytes:
    return in_graph(framed("GraphProto", "node", framed("NodeProto", "attribute", body)))


def of_strings() -> bytes:
    return in_attribute(framed("AttributeProto", "strings") * 6_000_001)


def of_packed_numbers() -> bytes:
    return in_attribute(framed("AttributeProto", "ints", bytes(6_000_001)))


def of_inner_graphs() -> bytes:
    inner = b""
    for _ in range(30):
        inner = framed("GraphProto", "node", framed("NodeProto", "attribute", framed("AttributeProto", "g", inner)))
    return in_graph(inner * (BOMB_BYTES // len(inner)))


BOMBS = {
    **{name: repeated("ModelProto", name) for name in ("opset_import", "metadata_props", "functions", "training_info")},
    **{
        name: in_graph(repeated("GraphProto", name))
        for name in ("value_info", "initializer", "node", "sparse_initializer", "quantization_annotation", "input")
    },
    "attribute": in_graph(framed("GraphProto", "node", repeated("NodeProto", "attribute"))),
    "names": in_graph(framed("GraphProto", "node", repeated("NodeProto", "input"))),
    "external_data": in_graph(framed("GraphProto", "initializer", repeated("TensorProto", "external_data"))),
    "int64_data": in_graph(framed("GraphProto", "initializer", framed("TensorProto", "int64_data", bytes(BOMB_BYTES)))),
    "unknown": varint(1_000 << 3) + b"\x00" + varint(1_001 << 3 | 2) + b"\x00",
    "group": varint(number("ModelProto", "graph") << 3 | 3),
    "inner graphs": of_inner_graphs(),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_before_a_parser_sees_it(bomb: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "load_model_from_string", lambda data: pytest.fail("a parser saw it"))
    with pytest.raises(InvalidInput, match=r"cannot serve as a model: (it|a weight|a node) ") as caught:
        Graph(bomb, "g", field="features_sha256")
    assert (caught.value.reason, caught.value.field) == ("BAD_MODEL", "features_sha256")


@pytest.mark.parametrize("bomb", [of_strings, of_packed_numbers])
def test_more_terms_than_a_model_may_have_are_refused(bomb: Callable[[], bytes]) -> None:
    with pytest.raises(ValueError, match="more than 6,000,000 numbers and strings"):
        lean(bomb())


@pytest.mark.parametrize("doubled", ["graph", "ir_version"])
def test_a_field_that_stands_there_twice_is_refused(doubled: str) -> None:
    again = framed("ModelProto", "graph") if doubled == "graph" else b"\x08\x08"
    with pytest.raises(ValueError, match=f"ModelProto.{doubled} twice"):
        lean(OURS + again)


def test_weights_are_left_out_and_nothing_else() -> None:
    bare, model = lean(OURS), onnx.load_model_from_string(OURS)
    assert bare.weight_bytes == [len(each.raw_data) for each in model.graph.initializer]
    model.graph.initializer[0].ClearField("raw_data")  # the bias is small
    assert onnx.load_model_from_string(bare.data) == model


def test_metadata_of_exporters_are_left_out() -> None:
    model = onnx.load_model_from_string(OURS)
    for node in model.graph.node:
        node.metadata_props.add(key="namespace", value="layer")
    assert onnx.load_model_from_string(lean(model.SerializeToString()).data) == onnx.load_model_from_string(
        lean(OURS).data
    )


def test_a_weight_outside_raw_data_is_refused_with_a_way_out() -> None:
    model = onnx.load_model_from_string(OURS)
    model.graph.initializer.append(helper.make_tensor("more", TensorProto.FLOAT, [2], [1.0, 2.0]))
    with pytest.raises(ValueError, match=r"onnx\.numpy_helper\.from_array"):
        lean(model.SerializeToString())


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1)),
    st.lists(st.floats(width=32, allow_nan=False)),
    st.lists(st.binary(max_size=200)),
)
def test_all_items_of_lists_are_counted(ints: list[int], floats: list[float], strings: list[bytes]) -> None:
    data = AttributeProto(ints=ints, floats=floats, strings=strings).SerializeToString()
    at = counted = 0
    while at < len(data) and (run := run_of(data, at, len(data))).items:
        at, counted = run.end, counted + run.items
    long = next((place for place, each in enumerate(strings) if len(each) > 127), len(strings))
    assert counted == len(floats) + len(ints) + long


@settings(max_examples=300)
@given(st.data())
def test_damaged_bytes_are_refused_or_hold_the_same_for_a_parser(data: st.DataObject) -> None:
    damaged = bytearray(OURS[:300] + OURS[-200:] if data.draw(st.booleans()) else OURS)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        bare = lean(bytes(damaged))
        model = onnx.load_model_from_string(bytes(damaged))
    except (ValueError, DecodeError):  # the parser refuses names that are no UTF-8
        return
    for each in model.graph.initializer:
        if len(each.raw_data) > 1_024:
            each.ClearField("raw_data")
    assert onnx.load_model_from_string(bare.data) == ModelProto.FromString(model.SerializeToString())


def test_small_weights_are_kept_since_shapes_are_among_them() -> None:
    model = onnx.load_model_from_string(OURS)
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, -1]), "shape"))
    assert onnx.load_model_from_string(lean(model.SerializeToString()).data).graph.initializer[-1].raw_data
