"""The published JSON Schemas are current, and agree with what the oracle's code prints and parses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from labelloop.errors import InvalidInput
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelResult, LabelVerdict, Prediction, Verdict
from schemas import __main__ as command
from schemas import documents
from schemas.comments import comments_of
from schemas.json_schema import Describer, Undescribed, nothing_always
from schemas.messages import PUBLISHED, REQUEST, RESULT, RETRACTION, VERDICT, Published, schema_of

from oracle_svc.domain.result_validation import check_result
from oracle_svc.integrations.messages import document, request_document, to_json, verdict_json
from oracle_svc.result_json import read_result

SENT = [each for each in PUBLISHED if each.printed]
RESULT_SCHEMA = schema_of(RESULT)
FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)  # type: ignore[untyped-decorator]
def _is_date_time(text: object) -> bool:
    return not isinstance(text, str) or datetime.fromisoformat(text).tzinfo is not None


def validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FORMATS)


# Any message of a type, and any JSON that is nearly a result.


def messages(kind: Descriptor) -> st.SearchStrategy[Message]:
    """Draw any message: each field is set or not, of a oneof one at most."""
    single = [each for each in kind.fields if each.containing_oneof is None]
    fields: dict[str, st.SearchStrategy[Any]] = {each.name: values(each) for each in single}
    chosen: list[st.SearchStrategy[dict[str, Any]]] = [
        st.just({}) | st.one_of([st.fixed_dictionaries({each.name: values(each)}) for each in oneof.fields])
        for oneof in kind.oneofs
    ]
    return st.tuples(st.fixed_dictionaries({}, optional=fields), *chosen).map(
        lambda drawn: GetMessageClass(kind)(**{name: value for part in drawn for name, value in part.items()})
    )


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    one = _value(field)
    return st.lists(one, max_size=3) if field.is_repeated else one


def _value(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type and field.message_type.full_name == "google.protobuf.Timestamp":
        return st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1))
    if field.message_type:
        return messages(field.message_type)
    if field.enum_type:
        return st.sampled_from([each.number for each in field.enum_type.values])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=40)
    bits = {FieldDescriptor.CPPTYPE_UINT32: 32, FieldDescriptor.CPPTYPE_UINT64: 64}
    if field.cpp_type in bits:
        return st.integers(0, 2 ** bits[field.cpp_type] - 1)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return st.floats(0, 1, width=32)  # events with others are not valid
    return st.booleans() if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else st.text(max_size=20)


def nearly_results() -> st.SearchStrategy[dict[str, Any]]:
    """Draw results as the schema describes them, each with up to two properties that have any other value."""
    fields = {name: _near(schema) for name, schema in RESULT_SCHEMA["properties"].items()}
    answers = [each["required"][0] for each in RESULT_SCHEMA["oneOf"]]
    said = st.one_of([st.fixed_dictionaries({name: fields[name]}) for name in answers])
    other = {name: field for name, field in fields.items() if name not in {*answers, "request_id"}}
    whole = st.fixed_dictionaries({"request_id": fields["request_id"]}, optional=other)
    anything = st.none() | st.booleans() | st.integers(-3, 2**33) | st.floats() | st.text(max_size=5)
    spoilt = st.dictionaries(st.sampled_from([*sorted(fields), "unknown"]), anything, max_size=2)
    return st.tuples(whole, said, st.just({}) | spoilt).map(lambda parts: parts[0] | parts[1] | parts[2])


def _near(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Draw values that a schema allows, or that lie just outside of its limits."""
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    by_type: dict[str, st.SearchStrategy[Any]] = {
        "boolean": st.booleans(),
        "integer": st.integers(0, 20) | st.integers(0, schema.get("maximum", 0) + 1) | st.sampled_from([2.0, 2.5]),
        "number": st.floats(0, 1e9) | st.floats(),
        "string": st.text(max_size=8) | st.just("x" * (schema.get("maxLength", 0) + 1)),
    }
    return by_type[schema["type"]]


@pytest.mark.parametrize("published", SENT, ids=lambda each: each.kind.__name__)
@given(data=st.data())
def test_what_the_oracle_sends_validates(published: Published, data: st.DataObject) -> None:
    assert published.printed, "the oracle sends it"
    schema, message = schema_of(published), data.draw(messages(published.descriptor))
    for name in schema["required"]:  # never empty in what the code makes
        field = published.descriptor.fields_by_name[name]
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING and name not in published.printed(published.kind()):
            setattr(message, name, "x")
    if isinstance(message, LabelRequest):
        if data.draw(st.booleans()):
            message.uri, message.content = "", message.content or b"x"
        else:
            message.uri, message.content = message.uri or "x", b""
    if isinstance(message, LabelVerdict):
        message.verdict = message.verdict or Verdict.VERDICT_REFUSED
    validator(schema).validate(published.printed(message))


def test_the_transports_print_what_the_schemas_describe() -> None:
    """Each has an encoder of its own: these are the ones that the published messages name."""
    request, verdict = LabelRequest(request_id="run-1/0/0/0"), LabelVerdict(request_id="run-1/0/0/0")
    assert json.loads(to_json(request)) == request_document(request)
    assert json.loads(verdict_json(verdict)) == document(verdict)
    assert (REQUEST.printed, VERDICT.printed, RETRACTION.printed) == (request_document, document, document)


@given(nearly_results())
def test_results_that_validate_are_taken(result: dict[str, Any]) -> None:
    assume(validator(RESULT_SCHEMA).is_valid(result))
    read = read_result(json.dumps(result).encode())
    assert read.request_id == result["request_id"]
    assert read.WhichOneof("answer") in result
    # What the schema does not say is which characters a text may have.
    assert refusal(read) in {"", "BAD_ANNOTATOR", "BAD_ANNOTATOR_ID", "BAD_COMMENT", "BAD_SOURCE_EVENT_ID"}


@given(messages(LabelResult.DESCRIPTOR))
def test_results_that_the_code_refuses_for_what_they_lack_do_not_validate(result: LabelResult) -> None:
    if refusal(result) in {"NO_ANSWER", "NO_SKIP_KIND", "BAD_REVISION", "ANNOTATOR_TOO_LONG", "COMMENT_TOO_LONG"}:
        assert not validator(RESULT_SCHEMA).is_valid(document_of(result))


def document_of(result: LabelResult) -> dict[str, Any]:
    """Return a result as a tool may send it: without what is 0 or empty."""
    found: dict[str, Any] = MessageToDict(result, preserving_proto_field_name=True)
    return found


def refusal(result: LabelResult) -> str:
    """Return the reason for which the code refuses a result, whatever the state of its run; empty for none."""
    try:
        check_result(result, "result")
    except InvalidInput as error:
        return error.reason
    return ""


def test_the_files_are_current() -> None:
    assert documents.stale() == [], "run `python -m schemas`"


def test_check_fails_for_files_that_are_not_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "FOLDER", tmp_path)
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    (tmp_path / "gone.schema.json").write_text("{}")
    monkeypatch.setattr("sys.argv", ["schemas", "--check"])
    with pytest.raises(SystemExit, match=r"run `python -m schemas`: .*gone\.schema\.json, label-request"):
        command.main()
    monkeypatch.setattr("sys.argv", ["schemas"])
    command.main()
    monkeypatch.setattr("sys.argv", ["schemas", "--check"])
    command.main()
    assert not (tmp_path / "gone.schema.json").exists()


def test_a_field_that_is_always_printed_is_required() -> None:
    for each in SENT:
        assert each.printed, "the oracle sends it"
        assert set(each.printed(each.kind())) <= set(schema_of(each)["required"])
    required = schema_of(REQUEST)["$defs"]["Prediction"]["required"]
    assert set(request_document(LabelRequest(prediction=Prediction()))["prediction"]) == set(required)
    assert "label" in required, "class 0"


def test_comments_are_found_by_full_name() -> None:
    proto = """
package a.v1;
// Calls.
service Calls {
  // Asks.
  rpc Ask(Outer) returns (Outer) {
    option deprecated = true;
  }
}
// Outer,
// in two lines.
message Outer {
  // Names.
  repeated string names = 1;
  // One of them.
  oneof which {
    // A number.
    uint32 number = 2;
  }
  optional int32 bare = 3;
}
// Nothing.
message Empty {}
// Kinds.
enum Kind {
  // None.
  KIND_NONE = 0;
}
"""
    assert comments_of(proto) == {
        "a.v1.Calls": "Calls.",
        "a.v1.Outer": "Outer, in two lines.",
        "a.v1.Outer.names": "Names.",
        "a.v1.Outer.which": "One of them.",
        "a.v1.Outer.number": "A number.",
        "a.v1.Empty": "Nothing.",
        "a.v1.Kind": "Kinds.",
        "a.v1.Kind.KIND_NONE": "None.",
    }


def test_a_declaration_without_a_comment_is_an_error() -> None:
    with pytest.raises(Undescribed, match=r"LabelResult: add a comment above it"):
        Describer({}, nothing_always).object(LabelResult.DESCRIPTOR)
