"""Describe protobuf messages, as JSON, by JSON Schemas. Pure functions.

Types follow protobuf's mapping to JSON: whole numbers of 64 bits are strings, bytes are base64, enums are names.
Schemas allow further properties, as a later release may have more fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TIMESTAMP = "google.protobuf.Timestamp"
_NUMBERS: Mapping[int, Schema] = {
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "string", "pattern": "^[0-9]{1,20}$"},
    FieldDescriptor.CPPTYPE_INT64: {"type": "string", "pattern": "^-?[0-9]{1,19}$"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
}


class Undescribed(Exception):
    """A declaration of a .proto file has no comment above it."""


@dataclass(frozen=True)
class Describer:
    """Describes messages.

    Attributes:
        comments: The comment of each declaration, by full name.
        always: Names the fields of a message that its JSON always has, for messages that the oracle sends.
        limits: What the code asks of fields beside their types, as keywords of JSON Schema, by full name.
        required: Full names of the fields and oneofs without which the code refuses a message.
    """

    comments: Mapping[str, str]
    always: Callable[[Descriptor], frozenset[str]]
    limits: Mapping[str, Schema] = field(default_factory=dict)
    required: frozenset[str] = frozenset()

    def document(self, message: Descriptor, file_name: str) -> Schema:
        """Return the schema of a message as a document of its own. Raises Undescribed."""
        below = {each.name: self.object(each) for each in _messages_below(message)}
        top = {"$schema": DIALECT, "$id": file_name, "title": message.name, **self.object(message)}
        return {**top, "$defs": below} if below else top

    def object(self, message: Descriptor) -> Schema:
        always = self.always(message)
        required = [each.name for each in message.fields if each.name in always or each.full_name in self.required]
        schema: Schema = {
            "description": self._comment(message.full_name),
            "type": "object",
            "properties": {each.name: self._field(each) for each in message.fields},
        }
        if required:
            schema["required"] = required
        choices = [_choice(each, each.full_name in self.required) for each in message.oneofs if not _is_optional(each)]
        return {**schema, **choices[0]} if len(choices) == 1 else {**schema, "allOf": choices} if choices else schema

    def _field(self, declared: FieldDescriptor) -> Schema:
        about = self._comment(declared.full_name)
        if declared.is_repeated:
            return {"description": about, "type": "array", "items": self._type(declared)}
        schema = self._type(declared)
        if declared.enum_type:
            schema["enum"] = self.limits.get(declared.full_name, {}).get("enum", schema["enum"])
            about = f"{about} {self._values(declared.enum_type, schema['enum'])}"
        return {"description": about, **schema, **self.limits.get(declared.full_name, {})}

    def _type(self, declared: FieldDescriptor) -> Schema:
        if declared.message_type:
            if declared.message_type.full_name == _TIMESTAMP:
                return {"type": "string", "format": "date-time"}
            return {"$ref": f"#/$defs/{declared.message_type.name}"}
        if declared.enum_type:
            return {"type": "string", "enum": [each.name for each in declared.enum_type.values]}
        if declared.type == FieldDescriptor.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        return dict(_NUMBERS.get(declared.cpp_type, {"type": "string"}))

    def _values(self, enum: EnumDescriptor, named: list[str]) -> str:
        return " ".join(f"{each}: {self._comment(f'{enum.full_name}.{each}')}" for each in named)

    def _comment(self, full_name: str) -> str:
        if comment := self.comments.get(full_name):
            return comment
        raise Undescribed(f"{full_name}: add a comment above it in its .proto file")


def always_printed(printed: Callable[[Message], Mapping[str, Any]]) -> Callable[[Descriptor], frozenset[str]]:
    """Return a function that names the fields which ``printed`` prints of an empty message."""
    return lambda message: frozenset(printed(GetMessageClass(message)()))


def nothing_always(message: Descriptor) -> frozenset[str]:
    """Name no field: those who send a message may leave out what is 0 or empty."""
    return frozenset()


def _messages_below(message: Descriptor) -> Iterator[Descriptor]:
    for each in message.fields:
        if each.message_type and each.message_type.full_name != _TIMESTAMP:
            yield each.message_type
            yield from _messages_below(each.message_type)


def _choice(oneof: OneofDescriptor, must: bool) -> Schema:
    """Return that exactly one field of a oneof is there, or at most one unless one ``must``."""
    each = [{"required": [member.name]} for member in oneof.fields]
    return {"oneOf": each if must else [*each, {"not": {"anyOf": each}}]}


def _is_optional(oneof: OneofDescriptor) -> bool:
    """Return whether the compiler made this oneof of a field that is declared optional."""
    return [f"_{member.name}" for member in oneof.fields] == [oneof.name]
