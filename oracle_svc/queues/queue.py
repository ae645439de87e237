"""What the oracle needs of a tool that people label in, and what such a tool finds in the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import ClassVar, Protocol, runtime_checkable

from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelResult
from starlette.routing import Route

_QUEUE = "queue:"


def source_of(tool: str) -> str:
    """What the log says of answers that a tool brought."""
    return f"{_QUEUE}{tool}"


def tool_of(source: str) -> str:
    """The tool that brought what has this source."""
    return source.removeprefix(_QUEUE)


class Verdict(Enum):
    """What became of a result; in each case the tool may forget it."""

    RECORDED = "recorded"  # it is in the log
    REPEATED = "repeated"  # it stood there already
    REFUSED = "refused"  # it cannot be taken as it is; a dead letter keeps it


class Intake(Protocol):
    """Where a tool brings results. Both return after all is durable, and may be repeated; both raise LabelloopError
    (Unready, say) where nothing could be done just now: the tool must bring the result again."""

    async def take(self, result: LabelResult) -> Verdict: ...

    async def take_json(self, data: bytes) -> Verdict:
        """The same for a LabelResult as JSON; what is none is refused and kept."""
        ...


class Queue(Protocol):
    """A tool that people label in.

    ``name`` is what run specs call it. Where ``whole_samples`` is true a sample is put into it once, however many
    annotators are asked, and its requests' ids have no slot; else it gets a request for each of them.
    """

    name: ClassVar[str]
    whole_samples: ClassVar[bool]

    async def push(self, requests: Sequence[LabelRequest]) -> None:
        """Put requests of one run into the tool, most wanted first. Must bear being repeated, with some or all of the
        same requests, after a crash or an error: a request that is there already should not come twice, as far as the
        tool lets us know. Any error that is not ours, or an ``Unready``, is tried again later."""
        ...

    async def retract(self, request_ids: Sequence[str]) -> None:
        """Nobody needs answers to these any more: take them out as far as the tool can. They may be long gone."""
        ...

    async def serve(self, intake: Intake) -> None:
        """Bring results to ``intake``, for ever, and outlive the tool's absences."""
        ...


@runtime_checkable
class Called(Protocol):
    """A tool that calls the oracle over HTTP, at the port of the labelling page."""

    def routes(self) -> list[Route]:
        """They say who may call them by themselves."""
        ...
