"""Build and parse the ids of label requests and the keys of their leases. No other module does so."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from labelloop.domain.limits import COUNT_MAX, TEXT_CHARACTERS_MAX
from labelloop.errors import InvalidInput

_RUN, _NUMBER, _POSITIVE = r"([A-Za-z0-9_-]{1,64})", r"(0|[1-9][0-9]{0,9})", r"([1-9][0-9]{0,9})"
REQUEST_ID = re.compile(rf"{_RUN}/{_NUMBER}/{_NUMBER}(?:/{_NUMBER})?")
_LEASE_KEY = re.compile(rf"{_RUN}\.{_NUMBER}\.{_NUMBER}\.(?:of{_POSITIVE}|{_NUMBER}(?:-{_POSITIVE})?)")


@dataclass(frozen=True)
class RequestId:
    """The id of a label request, as text ``<run>/<round>/<sample>`` or ``<run>/<round>/<sample>/<slot>``.

    Attributes:
        run_id: 1 to 64 letters, digits, ``-`` or ``_``.
        round: 0 to ``COUNT_MAX``, like the other numbers.
        sample_id: Index of the sample in the pool.
        slot: Slot of one annotator; None if the tool distributes the sample among its annotators itself.
    """

    run_id: str
    round: int
    sample_id: int
    slot: int | None = None

    @classmethod
    def parse(cls, text: str) -> RequestId:
        """Parse a request id; raise InvalidInput if ``text`` is not one."""
        if parts := _parts(REQUEST_ID, text):
            return cls(*parts)
        shown = text[:TEXT_CHARACTERS_MAX]
        message = f"{shown!r} is no request id: send back the request's own"
        raise InvalidInput("BAD_REQUEST_ID", message, field="request_id", request_id=shown)

    def __str__(self) -> str:
        place = f"{self.run_id}/{self.round}/{self.sample_id}"
        return place if self.slot is None else f"{place}/{self.slot}"

    @property
    def subject(self) -> str:
        """The id as tokens of a broker subject."""
        return str(self).replace("/", ".")

    @property
    def sample(self) -> RequestId:
        """The id of the request for the whole sample."""
        return replace(self, slot=None)


@dataclass(frozen=True)
class LeaseKey:
    """The key of a request's lease: ``<run>.<round>.<sample>.`` and then ``<slot>[-<revision>]`` or ``of<annotators>``.

    The key changes, so that the request is sent again, if a tool has to ask more annotators than before, or if the
    result was withdrawn: a message queue has completed the earlier request by then.

    Attributes:
        annotators: How many annotators a request for a whole sample asks; 0 for the request of one slot.
        revision: Above 0 if a sample's only annotator is asked again because their result was withdrawn.
    """

    request: RequestId
    annotators: int = 0
    revision: int = 0

    @classmethod
    def parse(cls, text: str) -> LeaseKey:
        """Parse a lease key; raise InvalidInput if ``text`` is not one."""
        if parts := _parts(_LEASE_KEY, text):
            run_id, round_, sample_id, annotators, slot, revision = parts
            return cls(RequestId(run_id, round_, sample_id, slot), annotators or 0, revision or 0)
        shown = text[:TEXT_CHARACTERS_MAX]
        raise InvalidInput("BAD_LEASE_KEY", f"{shown!r} is no key of a lease", lease_key=shown)

    def __str__(self) -> str:
        if self.request.slot is None:
            return f"{self.request.subject}.of{self.annotators}"
        return f"{self.request.subject}-{self.revision}" if self.revision else self.request.subject

    def conflicts_with(self, other: LeaseKey) -> bool:
        """Return whether two holders would work on the same: on one slot, or on a sample that one holds as a whole."""
        slots = {self.request.slot, other.request.slot}
        return self.request.sample == other.request.sample and (len(slots) == 1 or None in slots)


def request_id_prefix(run_id: str) -> str:
    """Return the text with which the ids of all requests of a run begin."""
    return f"{run_id}/"


def _parts(pattern: re.Pattern[str], text: str) -> tuple[Any, ...]:
    """Return the run id and the numbers in ``text``; nothing if it has another form or a number above COUNT_MAX."""
    if not (found := pattern.fullmatch(text)):
        return ()
    run_id, *numbers = found.groups()
    values = [None if number is None else int(number) for number in numbers]
    return () if any(value is not None and value > COUNT_MAX for value in values) else (run_id, *values)
