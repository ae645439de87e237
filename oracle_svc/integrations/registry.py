"""Build the annotation integrations that the environment configures."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module

from labelloop.domain.ids import RequestId
from labelloop.errors import InvalidInput, LabelloopError
from labelloop.eventlog.projections import RunProjections
from labelloop.settings import plain_fault
from nats.aio.client import Client
from pydantic import ValidationError

from oracle_svc.domain.current_answers import predicted
from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.integrations.base import Called, Integration
from oracle_svc.integrations.label_studio.integration import (
    Guidelines,
    LabelStudio,
    Predictions,
    from_environment,
)
from oracle_svc.integrations.label_studio.predictions import Prediction
from oracle_svc.integrations.label_studio.run_records import LoggedRuns, RunRecords
from oracle_svc.integrations.nats import Nats
from oracle_svc.leases import Leases

OPTIONAL = {  # integration -> its module here, and the setting that enables it
    "webhook": ("webhook.integration", "URL"),
    "amqp": ("amqp", "URL"),
    "sqs": ("sqs", "REQUESTS_URL"),
}


def connected(
    client: Client, replicas: int, projections: RunProjections[LabelingState], leases: Leases
) -> list[Integration]:
    """Return the configured integrations, NATS always among them. Raises InvalidInput for wrong settings."""

    def prediction(request_id: str) -> Prediction | None:
        with suppress(LabelloopError):  # a task that labelloop did not create
            request = RequestId.parse(request_id)
            if found := predicted(projections.get(request.run_id), request.sample_id):
                return Prediction(found[0], found[1].confidence, found[1].model_sha256)
        return None

    def guidelines(run_id: str) -> str:
        return projections.get(run_id).spec.queue.guidelines

    records = LoggedRuns(LabelStudio.name, projections, leases)
    return [Nats(client, replicas), *_configured(records, prediction, guidelines)]


def check_settings(*, has_port: bool) -> None:
    """Raise InvalidInput if an integration is configured wrongly, or needs the port and there is none."""
    no_runs = LoggedRuns(LabelStudio.name, RunProjections(LabelingState.begin), Leases(Client()))
    check_called(_configured(no_runs, lambda request_id: None, lambda run_id: ""), has_port=has_port)


def _configured(records: RunRecords, prediction: Predictions, guidelines: Guidelines) -> list[Integration]:
    """Return the integrations that the environment names. They connect to nothing before they are used."""
    made = [_made("LABEL_STUDIO", lambda: from_environment(records, prediction, guidelines))]
    for name, (module, setting) in OPTIONAL.items():
        if os.environ.get(f"LABELLOOP_{name.upper()}_{setting}"):
            made.append(_made(name.upper(), _maker(name, module)))
    return [queue for queue in made if queue]


def _maker(name: str, module: str) -> Callable[[], Integration | None]:
    """Return the factory of an integration whose client library is optional."""
    try:
        return import_module(f"oracle_svc.integrations.{module}").from_environment  # type: ignore[no-any-return]
    except ImportError as error:
        message = f"the tool {name} needs a library that is not installed ({error}): pip install 'labelloop[{name}]'"
        raise InvalidInput("NOT_INSTALLED", message, field="settings") from error


def _made(prefix: str, make: Callable[[], Integration | None]) -> Integration | None:
    try:
        return make()
    except ValidationError as error:
        faults = [
            (f"LABELLOOP_{prefix}_{each['loc'][0]}: ".upper() if each["loc"] else "") + plain_fault(each["msg"])
            for each in error.errors()  # what validates several settings names them
        ]
        raise InvalidInput("BAD_SETTINGS", "; ".join(faults), field="settings") from error


def check_called(queues: list[Integration], *, has_port: bool) -> None:
    """Raise InvalidInput if a tool needs to call the oracle and no HTTP port is set."""
    for queue in queues:
        if isinstance(queue, Called) and queue.routes() and not has_port:
            message = f"{queue.name} calls the oracle over HTTP: set LABELLOOP_HTTP_PORT"
            raise InvalidInput("NO_HTTP_PORT", message, field="http_port")
