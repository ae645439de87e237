"""Which dead letters are about a run, and which of them a later result replaces."""

from __future__ import annotations

import json

import pytest
from labelloop.oracle.v1.oracle_pb2 import DeadLetter, LabelResult

from oracle_svc.domain.letter_index import LetterIndex


def index(*letters: tuple[str, dict[str, object] | bytes, str]) -> LetterIndex:
    """The index of letters: id, data, reason."""
    made = LetterIndex()
    for letter_id, said, reason in letters:
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        made.add(DeadLetter(id=letter_id, data=data, reason=reason))
    return made


def said(annotator: str = "kim", request_id: str = "r/0/7", **more: object) -> dict[str, object]:
    return {"request_id": request_id, "annotator": annotator, **more}


UNKNOWN = "UNKNOWN_CLASS"


@pytest.mark.parametrize(
    "data",
    [
        said(),
        {"requestId": "r/0/7/0"},
        b'{"request_id": "r/0/7", cut',
        b'{"request_id": "r/no/id"}',
        json.dumps(said()).replace("/", "\\/").encode(),
    ],
)
def test_a_letter_belongs_to_the_run_of_its_request(data: dict[str, object] | bytes) -> None:
    made = index(("one", data, UNKNOWN), ("other", {"request_id": "r2/0/7", "comment": '"r/0/7'}, UNKNOWN))
    assert made.of_run("r") == ["one"]
    made.drop("one")
    assert made.of_run("r") == []


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"[" * 100_000, b"[1]", b'{"request_id": 7}', b'{"revision": 1e999}', b'{"revision": {}}'],
)
def test_a_letter_that_cannot_be_read_belongs_to_no_run(data: bytes) -> None:
    made = index(("one", data, "MALFORMED"))
    assert made.of_run("7") == (["one"] if b"7" in data else [])
    assert made.newest_first(["one"]) == ["one"]


@pytest.mark.parametrize(
    ("letter", "result", "one_annotator", "is_replaced"),
    [
        (said(), LabelResult(annotator="kim"), False, True),
        (said(), LabelResult(annotator="lee"), False, False),
        (said(), LabelResult(annotator="lee"), True, True),
        (said(), LabelResult(annotator="lee", withdrawn=True), True, False),
        (said(revision=1), LabelResult(annotator="kim"), True, False),
        (said(revision=1), LabelResult(annotator="kim", revision=1), False, True),
        (said(request_id="r/0/8"), LabelResult(annotator="kim"), True, False),
    ],
)
def test_letters_that_a_result_replaces(
    letter: dict[str, object], result: LabelResult, one_annotator: bool, is_replaced: bool
) -> None:
    result.request_id = "r/0/7/0"
    found = index(("one", letter, UNKNOWN)).replaced_by(result, one_annotator=one_annotator)
    assert found == (["one"] if is_replaced else [])


def test_the_request_that_a_letter_is_kept_for_is_known_whatever_it_holds() -> None:
    made = LetterIndex()
    made.add(DeadLetter(id="one", data=b'{"requests": ["r/0/7"', request_id="r/0/7", reason="MALFORMED"))
    assert made.of_run("r") == ["one"]
    assert made.replaced_by(LabelResult(request_id="r/0/7", annotator="kim"), one_annotator=True) == ["one"]


def test_letters_of_one_annotator_for_one_request_are_replayed_newest_first() -> None:
    made = index(*((name, said(who), UNKNOWN) for name, who in (("a", "kim"), ("b", "lee"), ("c", "kim"))))
    assert made.newest_first(["a", "b", "c"]) == ["c", "a", "b"]
