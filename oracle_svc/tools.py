"""Which tools the oracle is connected to."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module

from labelloop.oracle.v1.oracle_pb2 import LabelResult
from labelloop.wire.errors import InvalidInput, LabelloopError
from labelloop.wire.run_book import RunBook
from nats.aio.client import Client
from pydantic import ValidationError

from oracle_svc.desk import Desk
from oracle_svc.queues.label_studio import LabelStudio, from_environment
from oracle_svc.queues.label_studio_calls import Guess
from oracle_svc.queues.queue import Called, Queue, source_of
from oracle_svc.queues.subjects import Subjects
from oracle_svc.taking import RequestId
from oracle_svc.words import predicted, said

_OF_LIBRARIES = {"webhook": "URL", "amqp": "URL", "sqs": "REQUESTS_URL"}  # the setting without which there is none


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

    made = [_made("LABEL_STUDIO", lambda: from_environment(said_by_log, guess))]
    made += [_made(name.upper(), _maker(name)) for name, key in _OF_LIBRARIES.items() if _asked_for(name, key)]
    return [Subjects(client, replicas), *(queue for queue in made if queue)]


def _asked_for(name: str, key: str) -> bool:
    return bool(os.environ.get(f"LABELLOOP_{name.upper()}_{key}"))


def _maker(name: str) -> Callable[[], Queue | None]:
    """What makes a tool whose client is installed only where it is wanted."""
    try:
        return import_module(f"oracle_svc.queues.{name}").from_environment  # type: ignore[no-any-return]
    except ImportError as error:
        message = f"the tool {name} needs a library that is not installed ({error}): pip install 'labelloop[{name}]'"
        raise InvalidInput("NOT_INSTALLED", message, field="settings") from error


def _made(prefix: str, make: Callable[[], Queue | None]) -> Queue | None:
    try:
        return make()
    except ValidationError as error:
        faults = [
            "_".join(("LABELLOOP", prefix, *map(str, each["loc"]))).upper() + f": {each['msg']}"
            for each in error.errors()
        ]
        raise InvalidInput("BAD_SETTINGS", "; ".join(faults), field="settings") from error


def check_called(queues: list[Queue], *, has_port: bool) -> None:
    """InvalidInput where a tool is to call the oracle, which listens to none."""
    for queue in queues:
        if isinstance(queue, Called) and queue.routes() and not has_port:
            message = f"{queue.name} calls the oracle over HTTP: set LABELLOOP_HTTP_PORT"
            raise InvalidInput("NO_HTTP_PORT", message, field="http_port")
