"""Tools that people label in: one module each, all behind :class:`~oracle_svc.queues.queue.Queue`."""

from __future__ import annotations

from labelloop.wire.errors import InvalidInput
from nats.aio.client import Client
from pydantic import ValidationError

from oracle_svc.queues.queue import Called, Queue
from oracle_svc.queues.subjects import Subjects


def connected(client: Client, replicas: int) -> list[Queue]:
    """The tools that the environment names. InvalidInput for settings that are wrong."""
    return [Subjects(client, replicas)]


def _from(prefix: str, make: object) -> Queue | None:
    try:
        return make()  # type: ignore[operator, no-any-return]
    except ValidationError as error:
        faults = [f"{prefix}{'_'.join(map(str, each['loc']))}".upper() + f": {each['msg']}" for each in error.errors()]
        raise InvalidInput("BAD_SETTINGS", "; ".join(faults), field="settings") from error


def check_called(queues: list[Queue], *, has_port: bool) -> None:
    """InvalidInput where a tool is to call the oracle, which listens to none."""
    for queue in queues:
        if isinstance(queue, Called) and not has_port:
            message = f"{queue.name} calls the oracle over HTTP: set LABELLOOP_HTTP_PORT"
            raise InvalidInput("NO_HTTP_PORT", message, field="http_port")
