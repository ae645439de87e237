"""Print what programs read: JSON objects and CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


def plain(message: Message) -> dict[str, Any]:
    """Return a message as a document: names as in the contract, zeros included, times as text."""
    document = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    _with_numbers(document, message.DESCRIPTOR)
    return document


def _with_numbers(document: dict[str, Any], descriptor: Any) -> None:
    """Replace 64-bit numbers, which protobuf writes as text."""
    for field in descriptor.fields:
        if field.name not in document:
            continue
        if field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64):
            value = document[field.name]
            document[field.name] = [int(each) for each in value] if field.is_repeated else int(value)
        elif field.message_type and not field.message_type.GetOptions().map_entry:
            for each in document[field.name] if field.is_repeated else [document[field.name]]:
                if isinstance(each, dict):  # else a time, which is text
                    _with_numbers(each, field.message_type)


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON object."""
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def print_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print a header and a line for each row; None is empty."""
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
