"""Which tools the oracle is connected to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from labelloop.oracle.v1.oracle_pb2 import LabelResult
from labelloop.wire.errors import InvalidInput, LabelloopError
from labelloop.wire.run_book import RunBook
from nats.aio.client import Client
from pydantic import ValidationError

from oracle_svc.desk import Desk
from oracle_svc.intake import source_of
from oracle_svc.queues import label_studio
from oracle_svc.queues.label_studio import LabelStudio
from oracle_svc.queues.label_studio_calls import Guess
from oracle_svc.queues.queue import Called, Queue
from oracle_svc.queues.subjects import Subjects
from oracle_svc.taking import RequestId
from oracle_svc.words import predicted, said


def connected(client: Client, replicas: int, book: RunBook[Desk]) -> list[Queue]:
    """The tools that the environment names, and the broker itself. InvalidInput for settings that are wrong."""

    def said_by_log(request_id: str) -> Sequence[LabelResult]:
        request = RequestId.parse(request_id)
        desk = book.get(request.run_id)
        return said(desk, request, source_of(LabelStudio.name)) if desk.pool else ()

    def guess(request_id: str) -> Guess | None:
        with suppress(LabelloopError):  # a task that is none of ours
            request = RequestId.parse(request_id)
            if found := predicted(book.get(request.run_id), request.sample_id):
                return Guess(found[0], found[1].confidence, found[1].model_sha256)
        return None

    made: list[tuple[str, Callable[[], Queue | None]]] = [
        ("LABELLOOP_", lambda: Subjects(client, replicas)),
        ("LABELLOOP_LABEL_STUDIO_", lambda: label_studio.from_environment(said_by_log, guess)),
    ]
    return [queue for prefix, make in made if (queue := _made(prefix, make))]


def _made(prefix: str, make: Callable[[], Queue | None]) -> Queue | None:
    try:
        return make()
    except ValidationError as error:
        faults = [f"{prefix}{'_'.join(map(str, each['loc']))}".upper() + f": {each['msg']}" for each in error.errors()]
        raise InvalidInput("BAD_SETTINGS", "; ".join(faults), field="settings") from error


def check_called(queues: list[Queue], *, has_port: bool) -> None:
    """InvalidInput where a tool is to call the oracle, which listens to none."""
    for queue in queues:
        if isinstance(queue, Called) and queue.routes() and not has_port:
            message = f"{queue.name} calls the oracle over HTTP: set LABELLOOP_HTTP_PORT"
            raise InvalidInput("NO_HTTP_PORT", message, field="http_port")
