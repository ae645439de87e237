"""Represent samples that an annotator holds, and answers to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import SkipKind
from labelloop.oracle.v1 import oracle_pb2 as pb

_SKIPS = {"skip": SkipKind.SKIP_KIND_SKIPPED, "reject": SkipKind.SKIP_KIND_REJECTED}


@dataclass(frozen=True)
class Request:
    """A sample to label, which nobody else is given before ``expires_at``.

    Attributes:
        id: Names the request in :meth:`Run.submit`.
        sample_id: The sample.
        name: Its file or its row's key; empty if it has none.
        media_type: Of ``content``, for example ``image/png`` or ``text/plain``.
        content: The sample.
        classes: Class names.
        predicted: What the model says; None without a model, or if the run hides predictions.
        confidence: Its probability.
        guidelines: How to label, Markdown or plain text.
        expires_at: When somebody else may be given it.
    """

    id: str
    sample_id: int
    name: str
    media_type: str
    content: bytes = field(repr=False)
    classes: tuple[str, ...]
    predicted: str | None
    confidence: float | None
    guidelines: str = field(repr=False)
    expires_at: datetime
    revision: int = field(repr=False, default=0)

    def text(self) -> str:
        """Return the content of a text or a table's row."""
        return self.content.decode()


def request_of(found: pb.LabelRequest) -> Request:
    said = found.prediction if found.HasField("prediction") else None
    return Request(
        id=found.request_id,
        sample_id=found.sample_id,
        name=found.sample_name,
        media_type=found.media_type,
        content=found.content,
        classes=tuple(found.classes),
        predicted=found.classes[said.label] if said else None,
        confidence=said.confidence if said else None,
        guidelines=found.guidelines,
        expires_at=found.lease_expires_at.ToDatetime(UTC),
        revision=found.next_revision,
    )


def results_of(answers: Mapping[Request, str | int], annotator: str, comment: str) -> Iterable[pb.LabelResult]:
    """Yield results from the class of each request, by name or number, or ``"skip"`` or ``"reject"``.

    A class of that name comes first. Raises InvalidInput for anything else.
    """
    for request, answer in answers.items():
        yield pb.LabelResult(
            request_id=request.id,
            annotator=annotator,
            revision=request.revision,
            comment=comment,
            **_said(request, answer),
        )


def _said(request: Request, answer: str | int) -> dict[str, Any]:
    if isinstance(answer, str):
        if answer in request.classes:
            return {"label": request.classes.index(answer)}
        if answer in _SKIPS:
            return {"skip": _SKIPS[answer]}
    elif not isinstance(answer, bool) and 0 <= answer < len(request.classes):
        return {"label": int(answer)}
    message = f"sample {request.sample_id}: {answer!r} is no class; the classes are {', '.join(request.classes)}"
    raise InvalidInput("UNKNOWN_CLASS", message, field="answers")
