"""Say which messages are published, and what the code asks of them beside their types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from labelloop.domain.ids import REQUEST_ID
from labelloop.domain.limits import COMMENT_CHARACTERS_MAX, SKIP_KINDS, TEXT_CHARACTERS_MAX
from labelloop.events.v1.events_pb2 import SkipKind
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelResult, LabelRetraction, LabelVerdict

from oracle_svc.domain.result_validation import REVISION_MAX
from oracle_svc.integrations.messages import to_json
from schemas.comments import comments_of
from schemas.json_schema import Describer, Schema, always_printed, nothing_always

_PROTOS = Path(__file__).resolve().parents[2] / "proto" / "labelloop"
_RESULT = LabelResult.DESCRIPTOR.full_name
_LIMITS: Mapping[str, Schema] = {
    "request_id": {"pattern": f"^{REQUEST_ID.pattern}$"},
    "skip": {"enum": [SkipKind.Name(each) for each in sorted(SKIP_KINDS)]},
    "withdrawn": {"const": True},
    "annotator": {"maxLength": TEXT_CHARACTERS_MAX},
    "revision": {"maximum": REVISION_MAX},
    "time_spent_s": {"minimum": 0},
    "source_event_id": {"maxLength": TEXT_CHARACTERS_MAX},
    "comment": {"maxLength": COMMENT_CHARACTERS_MAX},
}
"""What :mod:`oracle_svc.domain.result_validation` refuses, by field of a result."""


class Published(NamedTuple):
    """A published message.

    Attributes:
        message: Its type.
        file_name: The file with its schema.
        is_sent: Whether the oracle sends it; otherwise the oracle takes it.
    """

    message: Descriptor
    file_name: str
    is_sent: bool


REQUEST = Published(LabelRequest.DESCRIPTOR, "label-request.schema.json", is_sent=True)
RESULT = Published(LabelResult.DESCRIPTOR, "label-result.schema.json", is_sent=False)
VERDICT = Published(LabelVerdict.DESCRIPTOR, "label-verdict.schema.json", is_sent=True)
RETRACTION = Published(LabelRetraction.DESCRIPTOR, "label-retraction.schema.json", is_sent=True)
PUBLISHED = (REQUEST, RESULT, VERDICT, RETRACTION)


def schema_of(published: Published) -> Schema:
    """Return a message's schema as a document. Raises Undescribed."""
    return (_sent() if published.is_sent else _taken()).document(published.message, published.file_name)


def printed(message: Message) -> dict[str, Any]:
    """Return what the oracle sends of a message."""
    value: dict[str, Any] = json.loads(to_json(message))  # type: ignore[arg-type]
    return value


def _sent() -> Describer:
    return Describer(_comments(), always_printed(printed))


def _taken() -> Describer:
    return Describer(
        _comments(),
        nothing_always,
        {f"{_RESULT}.{name}": limit for name, limit in _LIMITS.items()},
        frozenset({f"{_RESULT}.request_id", f"{_RESULT}.answer"}),
    )


def _comments() -> Mapping[str, str]:
    return {
        name: comment
        for proto in sorted(_PROTOS.glob("*/v1/*.proto"))
        for name, comment in comments_of(proto.read_text()).items()
    }
