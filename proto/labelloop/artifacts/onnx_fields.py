"""The fields of ONNX's messages, with how many of each a model may have. Pure functions.

What is known is read from the descriptors of the installed ``onnx``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import onnx
from google.protobuf.descriptor import FieldDescriptor

_MOST = 50_000  # of any field that is not named here, in a whole model
_MOST_OF: Mapping[str, int] = {
    "ModelProto.opset_import": 16,
    "GraphProto.node": 10_000,
    "GraphProto.initializer": 10_000,
    "GraphProto.value_info": 10_000,
    "GraphProto.input": 100,
    "GraphProto.output": 100,
    "StringStringEntryProto.key": 200_000,  # exporters leave a few for each node
    "StringStringEntryProto.value": 200_000,
    "NodeProto.metadata_props": 200_000,
}
_PLAIN = "it holds more than a plain graph"
_INNER = "a node holds a tensor or a graph of its own"
_ELSEWHERE = "a weight lies in another file: save the model with its weights inside"
_NOT_RAW = (
    "a weight does not hold its numbers as raw data: make it with onnx.numpy_helper.from_array, "
    "or onnx.helper.make_tensor with raw=True"
)
_NOT_TENSOR = "it holds values other than tensors"
_REFUSED: Mapping[str, str] = {
    "ModelProto.functions": _PLAIN,
    "ModelProto.training_info": _PLAIN,
    "ModelProto.configuration": _PLAIN,
    "GraphProto.sparse_initializer": _PLAIN,
    "GraphProto.quantization_annotation": _PLAIN,
    "NodeProto.device_configurations": _PLAIN,
    "AttributeProto.t": _INNER,
    "AttributeProto.g": _INNER,
    "AttributeProto.sparse_tensor": _INNER,
    "AttributeProto.tp": _INNER,
    "AttributeProto.tensors": _INNER,
    "AttributeProto.graphs": _INNER,
    "AttributeProto.sparse_tensors": _INNER,
    "AttributeProto.type_protos": _INNER,
    "AttributeProto.ref_attr_name": _PLAIN,
    "TensorProto.external_data": _ELSEWHERE,
    "TensorProto.segment": _NOT_RAW,
    "TensorProto.float_data": _NOT_RAW,
    "TensorProto.int32_data": _NOT_RAW,
    "TensorProto.int64_data": _NOT_RAW,
    "TensorProto.double_data": _NOT_RAW,
    "TensorProto.uint64_data": _NOT_RAW,
    "TensorProto.string_data": _NOT_RAW,
    "TypeProto.sequence_type": _NOT_TENSOR,
    "TypeProto.map_type": _NOT_TENSOR,
    "TypeProto.optional_type": _NOT_TENSOR,
    "TypeProto.sparse_tensor_type": _NOT_TENSOR,
    "TypeProto.opaque_type": _NOT_TENSOR,
}
_LEFT_OUT = {"metadata_props"}
_WIRE: Mapping[int, int] = {
    FieldDescriptor.TYPE_DOUBLE: 1,
    FieldDescriptor.TYPE_FLOAT: 5,
    FieldDescriptor.TYPE_STRING: 2,
    FieldDescriptor.TYPE_BYTES: 2,
    FieldDescriptor.TYPE_MESSAGE: 2,
}


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        wire: its wire type; 0 for whole numbers.
        message: the kind of message that it holds, or "".
        most: how often it may occur in a model.
        refused: why no model may have it, or "".
        is_kept: whether checks need it.
    """

    number: int
    name: str
    full_name: str
    wire: int
    message: str
    is_repeated: bool
    most: int
    refused: str
    is_kept: bool


@cache
def fields_of(kind: str) -> Mapping[int, Field]:
    """Return the fields of a message of ONNX, such as ``GraphProto``, by their numbers."""
    descriptor = onnx.ModelProto.DESCRIPTOR.file.message_types_by_name[kind.split(".")[0]]
    for inner in kind.split(".")[1:]:
        descriptor = descriptor.nested_types_by_name[inner]
    return {each.number: _field(kind, each) for each in descriptor.fields}


def _field(kind: str, each: Any) -> Field:
    full_name = f"{kind}.{each.name}"
    return Field(
        number=each.number,
        name=each.name,
        full_name=full_name,
        wire=_WIRE.get(each.type, 0),
        message=each.message_type.full_name.removeprefix("onnx.") if each.message_type else "",
        is_repeated=each.is_repeated,
        most=_MOST_OF.get(full_name, _MOST),
        refused=_REFUSED.get(full_name, ""),
        is_kept=each.name not in _LEFT_OUT,
    )
