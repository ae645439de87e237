"""Build and parse the ids of label requests. No other module does so."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labelloop.domain.limits import TEXT_CHARACTERS_MAX
from labelloop.errors import InvalidInput

_REQUEST_ID = re.compile(r"([A-Za-z0-9_-]{1,64})/(\d{1,9})/(\d{1,9})(?:/(\d{1,9}))?")


@dataclass(frozen=True)
class RequestId:
    """The id of a label request; ``slot`` is None if the tool distributes the sample among its annotators itself."""

    run_id: str
    round: int
    sample_id: int
    slot: int | None = None

    @classmethod
    def parse(cls, text: str) -> RequestId:
        """Parse a request id; raise InvalidInput if ``text`` is not one."""
        found = _REQUEST_ID.fullmatch(text)
        if not found:
            message = f"{text[:TEXT_CHARACTERS_MAX]!r} is no request id: send back the request's own"
            raise InvalidInput("BAD_REQUEST_ID", message, field="request_id", request_id=text)
        run_id, round_, sample_id, slot = found.groups()
        return cls(run_id, int(round_), int(sample_id), None if slot is None else int(slot))

    def __str__(self) -> str:
        place = f"{self.run_id}/{self.round}/{self.sample_id}"
        return place if self.slot is None else f"{place}/{self.slot}"
