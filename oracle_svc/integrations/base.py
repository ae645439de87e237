"""Define the interfaces between the oracle and its annotation integrations."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import ClassVar, Protocol, runtime_checkable

from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelResult, LabelRetraction, LabelVerdict
from starlette.routing import Route

_QUEUE = "queue:"


def source_of(tool: str) -> str:
    """Return the source that the event log gives for results of ``tool``."""
    return f"{_QUEUE}{tool}"


def tool_of(source: str) -> str:
    """Return the tool that a source names."""
    return source.removeprefix(_QUEUE)


class RecordStatus(Enum):
    """Outcome of handing over a result; in each case the tool may forget it."""

    RECORDED = "recorded"  # it was appended to the event log
    REPEATED = "repeated"  # the log has it, or another annotator's, already
    REFUSED = "refused"  # it is invalid or too late; a dead letter keeps it


class ResultSink(Protocol):
    """Receiver of the results that a tool delivers.

    Both methods return once the outcome is durable, and may be repeated. Both raise a LabelloopError, such as Unready,
    if nothing could be done now: the tool must deliver the result again.
    """

    async def take(self, result: LabelResult) -> RecordStatus: ...

    async def take_json(self, data: bytes) -> LabelVerdict:
        """Take a LabelResult as JSON; malformed data is refused and kept as a dead letter.

        Returns:
            The verdict, for whoever sent the result.
        """
        ...

    def note_reading(self, problem: str = "") -> None:
        """Note why no results can be read from the tool, or that they are read if ``problem`` is empty."""
        ...


class Integration(Protocol):
    """An annotation tool, or a message queue that leads to one.

    Attributes:
        name: The tool's name in run specs.
        whole_samples: If true, a sample is put into the tool once, however many annotators are asked, and request ids
            have no slot; otherwise the tool gets a request for each annotator.
    """

    name: ClassVar[str]
    whole_samples: ClassVar[bool]

    async def push(self, requests: Sequence[LabelRequest]) -> None:
        """Put requests of one run into the tool, highest priority first.

        Must tolerate being repeated, with some or all of the same requests, after a crash or an error: a request that
        is there already should not be added again, as far as the tool lets us know. Errors are retried later: Unready,
        and errors that are not LabelloopErrors, pause all runs of the tool, other LabelloopErrors this run.
        """
        ...

    async def retract(self, retractions: Sequence[LabelRetraction]) -> None:
        """Remove requests that need no result any more, as far as the tool can. They may be gone already."""
        ...

    async def serve(self, result_sink: ResultSink) -> None:
        """Deliver results to ``result_sink`` until cancelled, surviving outages of the tool, which it is told of."""
        ...

    async def aclose(self) -> None:
        """Close connections of its own, after the last use."""
        ...


@runtime_checkable
class Dropping(Protocol):
    """An integration whose tool drops requests by itself.

    Attributes:
        kept_s: Seconds after which it does.
    """

    kept_s: float


@runtime_checkable
class Called(Protocol):
    """An integration whose tool calls the oracle over HTTP, at the port of the labelling page."""

    def routes(self) -> list[Route]:
        """Return the routes to serve. They authenticate their callers themselves."""
        ...
