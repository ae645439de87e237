"""Find dead letters by the request that they answer, and those that a later result replaced. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from labelloop.domain.ids import RequestId
from labelloop.errors import InvalidInput
from labelloop.oracle.v1.oracle_pb2 import DeadLetter, LabelResult

_REQUEST = re.compile(rb'"request_?[iI]d"\s*:\s*"([A-Za-z0-9_/-]{1,120})"')
_NOBODY = RequestId("", 0, -1)  # no request is for this sample


@dataclass(frozen=True)
class LetterSubject:
    """What a dead letter is about.

    Attributes:
        request: The request that it answers; without a run id if it does not say.
        annotator: Who answered; empty if it does not say.
        revision: 0 if it does not say.
    """

    request: RequestId
    annotator: str
    revision: int


def subject_of(letter: DeadLetter) -> LetterSubject:
    """Read what a letter is about, as far as its data can be read: it may be malformed, or cut."""
    try:
        said = json.loads(letter.data)
        named = str(said.get("request_id", said.get("requestId", "")))
        annotator, revision = str(said.get("annotator", "")), int(said.get("revision", 0))
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        found = _REQUEST.search(letter.data)
        named, annotator, revision = found[1].decode() if found else "", "", 0
    named = letter.request_id or named
    try:
        request = RequestId.parse(named)
    except InvalidInput:
        request = replace(_NOBODY, run_id=named.partition("/")[0])
    return LetterSubject(request, annotator, revision)


class LetterIndex:
    """The subjects of the letters that stand, by run and by sample."""

    def __init__(self) -> None:
        self._subjects: dict[str, LetterSubject] = {}
        self._ids: dict[str | RequestId, dict[str, None]] = {}  # by run, and by sample

    def add(self, letter: DeadLetter) -> None:
        subject = self._subjects[letter.id] = subject_of(letter)
        for key in (subject.request.run_id, subject.request.sample):
            self._ids.setdefault(key, {})[letter.id] = None

    def drop(self, letter_id: str) -> None:
        if subject := self._subjects.pop(letter_id, None):
            for key in (subject.request.run_id, subject.request.sample):
                self._ids[key].pop(letter_id, None)
                if not self._ids[key]:
                    del self._ids[key]

    def of_run(self, run_id: str) -> list[str]:
        """Return the ids of the letters for a run, oldest first."""
        return list(self._ids.get(run_id, ()))

    def replaced_by(self, result: LabelResult, *, one_annotator: bool) -> list[str]:
        """Return the letters that ``result``, which the log has by now, replaces.

        They are of no later revision.

        Args:
            one_annotator: Whether the run asks one annotator for each sample: their result settles the request.
        """
        settles = one_annotator and result.WhichOneof("answer") != "withdrawn"
        letters = (
            (each, self._subjects[each]) for each in self._ids.get(RequestId.parse(result.request_id).sample, ())
        )
        return [
            letter_id
            for letter_id, subject in letters
            if subject.revision <= result.revision and (settles or subject.annotator == result.annotator)
        ]

    def newest_first(self, letter_ids: Iterable[str]) -> list[str]:
        """Return the letters in their order, but those of one annotator for one request newest first.

        The newest holds what the annotator meant in the end. Once it is recorded, the others are replaced.
        """
        groups: dict[tuple[str, str, str], list[str]] = {}
        for letter_id in letter_ids:
            subject = self._subjects.get(letter_id, LetterSubject(_NOBODY, "", 0))
            alone = letter_id if subject.request.run_id == "" else ""
            groups.setdefault((str(subject.request), subject.annotator, alone), []).append(letter_id)
        return [letter_id for group in groups.values() for letter_id in reversed(group)]
