"""Convert between run specs and documents: nested dictionaries with the names of RunSpec's fields.

Enums are the words that the command's options have: ``STRATEGY_LEAST_CONFIDENCE`` is ``least-confidence``.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import RunSpec

Document = dict[str, Any]
_SET_AT_START = {"resolution_version"}
_INTEGER_MAX = {FieldDescriptor.CPPTYPE_UINT32: 2**32 - 1, FieldDescriptor.CPPTYPE_UINT64: 2**64 - 1}


def to_document(message: Message) -> Document:
    """Return all fields of ``message`` in the order of the contract, without the messages that are unset.

    What the trainer sets when a run starts is left out.
    """
    return {
        field.name: _plain(field, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if field.name not in _SET_AT_START
        and (field.is_repeated or field.message_type is None or message.HasField(field.name))
    }


def _plain(field: Any, value: Any) -> Any:
    if field.is_repeated:
        return [to_document(item) if field.message_type else item for item in value]
    if field.message_type:
        return to_document(value)
    return _words(field.enum_type)[value] if field.enum_type else value


def _words(enum: EnumDescriptor) -> dict[int, str]:
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {value.number: value.name.removeprefix(prefix).lower().replace("_", "-") for value in enum.values}


def to_spec(document: Document) -> RunSpec:
    """Return the spec that ``document`` describes.

    Raises InvalidInput for the first field that is unknown or has a value of the wrong type, naming the field.
    """
    return RunSpec(**_message(document, RunSpec.DESCRIPTOR, ""))


def _message(document: object, descriptor: Descriptor, path: str) -> Document:
    if not isinstance(document, dict):
        raise fault(path, f"must hold fields, not {_shown(document)}: write {', '.join(descriptor.fields_by_name)}")
    return {name: _field(descriptor, name, value, f"{path}.{name}".lstrip(".")) for name, value in document.items()}


def _field(descriptor: Descriptor, name: object, value: object, path: str) -> Any:
    field = descriptor.fields_by_name.get(name) if isinstance(name, str) else None
    if field is None:
        raise fault(path, f"there is no such field: use {', '.join(descriptor.fields_by_name)}")
    if not field.is_repeated:
        return _value(field, value, path)
    if not isinstance(value, list):
        raise fault(path, f"must be a list, not {_shown(value)}")
    return [_value(field, item, f"{path}[{index}]") for index, item in enumerate(value)]


def _value(field: FieldDescriptor, value: object, path: str) -> Any:
    if field.message_type:
        return _message(value, field.message_type, path)
    if field.enum_type:
        return _number(field.enum_type, value, path)
    if wanted := _wanted(field.cpp_type, value):
        raise fault(path, f"must be {wanted}, not {_shown(value)}")
    return value


def _number(enum: EnumDescriptor, value: object, path: str) -> int:
    words = _words(enum)
    for number, word in words.items():
        if word == value:
            return number
    raise fault(path, f"must be one of {', '.join([*words.values()][1:])}, not {_shown(value)}")


def _wanted(cpp_type: int, value: object) -> str:
    """Return what a value of ``cpp_type`` must be if ``value`` is none, else an empty string."""
    if cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return "" if _is_text(value) else "text (put numbers, true and false in quotes)"
    if cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return "" if isinstance(value, bool) else "true or false"
    if cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return "" if isinstance(value, float) or _is_integer(value, -(2**53), 2**53) else "a number"
    most = _INTEGER_MAX[cpp_type]
    return "" if _is_integer(value, 0, most) else f"a whole number from 0 to {most}"


def _is_integer(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _shown(value: object) -> str:
    if value is None:
        return "empty (leave the field out, or write {} for a section)"
    if isinstance(value, dict):
        return "a section"
    return "a list" if isinstance(value, list) else ascii(value)[:60]


def fault(path: str, message: str) -> InvalidInput:
    """Return the error for the field at ``path`` of a spec."""
    return InvalidInput("BAD_SPEC", f"{path or 'the spec'}: {message}", field=path)
