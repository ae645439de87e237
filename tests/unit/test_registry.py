"""The registry of integrations, without their optional client libraries."""

from __future__ import annotations

import sys
from base64 import b64encode

import pytest
from labelloop.errors import InvalidInput
from labelloop.eventlog.projections import RunProjections
from nats.aio.client import Client

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.integrations.base import Integration
from oracle_svc.integrations.registry import connected
from oracle_svc.leases import Leases

LIBRARIES = {"amqp": "aio_pika", "sqs": "boto3"}
SETTINGS = {
    "amqp": {"LABELLOOP_AMQP_URL": "amqp://127.0.0.1/"},
    "sqs": {
        "LABELLOOP_SQS_REQUESTS_URL": "http://127.0.0.1/requests",
        "LABELLOOP_SQS_RESULTS_URL": "http://127.0.0.1/results",
    },
}


@pytest.fixture(autouse=True)
def _no_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    for tool, library in LIBRARIES.items():
        monkeypatch.setitem(sys.modules, library, None)  # importing it fails
        monkeypatch.delitem(sys.modules, f"oracle_svc.integrations.{tool}", raising=False)


def tools() -> list[Integration]:
    client = Client()
    return connected(client, 1, RunProjections(LabelingState.begin), Leases(client))


def test_an_integration_that_is_not_configured_needs_no_library() -> None:
    assert [queue.name for queue in tools()] == ["nats"]


def test_label_studio_needs_no_optional_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELLOOP_LABEL_STUDIO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LABELLOOP_LABEL_STUDIO_TOKEN", "legacy")
    assert [queue.name for queue in tools()] == ["nats", "label-studio"]


def test_a_webhook_needs_no_optional_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELLOOP_WEBHOOK_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LABELLOOP_WEBHOOK_SECRET", f"whsec_{b64encode(bytes(32)).decode()}")
    assert [queue.name for queue in tools()] == ["nats", "webhook"]


@pytest.mark.parametrize("tool", LIBRARIES)
def test_the_error_of_a_missing_library_names_the_extra_to_install(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS[tool].items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=rf"{LIBRARIES[tool]}.*pip install 'labelloop\[{tool}\]'"):
        tools()
