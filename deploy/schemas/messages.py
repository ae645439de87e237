"""Say which messages are published, and what the code asks of them beside their types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from labelloop.domain.ids import REQUEST_ID
from labelloop.domain.limits import COMMENT_CHARACTERS_MAX, SKIP_KINDS, TEXT_CHARACTERS_MAX
from labelloop.events.v1.events_pb2 import SkipKind
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelResult, LabelRetraction, LabelVerdict, Verdict

from oracle_svc.domain.result_validation import REVISION_MAX
from oracle_svc.integrations.messages import document, request_document
from schemas.comments import comments_of
from schemas.json_schema import Describer, Schema, always_printed, nothing_always

_PROTOS = Path(__file__).resolve().parents[2] / "proto" / "labelloop"
_ALWAYS_SET: Mapping[type[Message], tuple[str, ...]] = {
    LabelRequest: ("request_id", "run_id", "media_type", "sha256"),
    LabelResult: ("request_id", "answer"),
}
"""Fields and oneofs that the code always sets, or without which it refuses a message."""
_EXACTLY_ONE: Mapping[type[Message], tuple[str, ...]] = {LabelRequest: ("content", "uri")}
"""Fields of which exactly one is set, although no oneof says so: :mod:`oracle_svc.samples.requests`."""
_LIMITS: Mapping[type[Message], Mapping[str, Schema]] = {
    LabelResult: {
        "request_id": {"pattern": f"^{REQUEST_ID.pattern}$"},
        "skip": {"enum": [SkipKind.Name(each) for each in sorted(SKIP_KINDS)]},
        "withdrawn": {"const": True},
        "annotator": {"maxLength": TEXT_CHARACTERS_MAX},
        "revision": {"maximum": REVISION_MAX},
        "time_spent_s": {"minimum": 0},
        "source_event_id": {"maxLength": TEXT_CHARACTERS_MAX},
        "comment": {"maxLength": COMMENT_CHARACTERS_MAX},
    },
    LabelVerdict: {"verdict": {"enum": [name for name in Verdict.keys() if Verdict.Value(name)]}},  # noqa: SIM118
}
"""What :mod:`oracle_svc.domain.result_validation` refuses, and what is never sent."""


class Published(NamedTuple):
    """A published message.

    Attributes:
        kind: Its type.
        file_name: The file with its schema.
        printed: What the oracle sends of it; None for what it takes.
    """

    kind: type[Message]
    file_name: str
    printed: Callable[[Any], dict[str, Any]] | None

    @property
    def descriptor(self) -> Descriptor:
        return self.kind.DESCRIPTOR  # type: ignore[return-value]


REQUEST = Published(LabelRequest, "label-request.schema.json", request_document)
RESULT = Published(LabelResult, "label-result.schema.json", None)
VERDICT = Published(LabelVerdict, "label-verdict.schema.json", document)
RETRACTION = Published(LabelRetraction, "label-retraction.schema.json", document)
PUBLISHED = (REQUEST, RESULT, VERDICT, RETRACTION)


def schema_of(published: Published) -> Schema:
    """Return a message's schema as a document. Raises Undescribed."""
    name = published.descriptor.full_name
    describer = Describer(
        _comments(),
        always_printed(published.printed) if published.printed else nothing_always,
        {f"{name}.{field}": limit for field, limit in _LIMITS.get(published.kind, {}).items()},
        frozenset(f"{name}.{field}" for field in _ALWAYS_SET.get(published.kind, ())),
    )
    schema = describer.document(published.descriptor, published.file_name)
    if fields := _EXACTLY_ONE.get(published.kind):
        schema["oneOf"] = [{"required": [each]} for each in fields]
    return schema


@cache
def _comments() -> Mapping[str, str]:
    return {
        name: comment
        for proto in sorted(_PROTOS.glob("*/v1/*.proto"))
        for name, comment in comments_of(proto.read_text()).items()
    }
