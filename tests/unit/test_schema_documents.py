"""The published AsyncAPI and OpenAPI documents are whole: their structure, their references and every route."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from schemas import asyncapi, openapi
from schemas.documents import documents
from schemas.envelopes import envelopes
from schemas.routes import PRIVATE, paths_and_methods, routes

from oracle_svc.integrations.nats import Nats
from oracle_svc.integrations.registry import OPTIONAL
from oracle_svc.integrations.webhook.integration import RESULTS_PATH
from tests.unit.published_documents import registry
from tests.unit.test_schemas import validator

DOCUMENTS = documents()
OPENAPI, ASYNCAPI = DOCUMENTS[openapi.FILE], DOCUMENTS[asyncapi.FILE]
REGISTRY = registry(DOCUMENTS)
_METHODS = {"get", "post", "put", "patch", "delete", "head", "options", "trace"}


def below(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects in a document, at any depth."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from below(each)


def references(document: dict[str, Any]) -> list[str]:
    return [each["$ref"] for each in below(document) if isinstance(each.get("$ref"), str)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_reference_resolves(name: str) -> None:
    found = references(DOCUMENTS[name])
    for reference in found:
        assert REGISTRY.resolver(base_uri=name).lookup(reference).contents
    assert found or name.endswith(".schema.json")


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name.endswith(".schema.json")])
def test_every_schema_is_one(name: str) -> None:
    validator(DOCUMENTS[name])
    assert DOCUMENTS[name]["$id"] == name


def test_every_field_is_described() -> None:
    for name in envelopes():
        assert DOCUMENTS[name]["description"]
    for name, document in DOCUMENTS.items():
        if name.startswith("label-"):
            for each in below(document):
                assert all(about["description"] for about in each.get("properties", {}).values())


# OpenAPI


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in {**OPENAPI["paths"], **OPENAPI["webhooks"]}.items():
        assert set(item) <= _METHODS
        yield from ((path, operation) for operation in item.values())


def test_openapi_has_what_the_specification_requires() -> None:
    assert re.fullmatch(r"3\.1\.\d", OPENAPI["openapi"])
    assert OPENAPI["info"]["title"]
    assert OPENAPI["info"]["version"]
    assert all(path.startswith("/") for path in OPENAPI["paths"])
    ids = [operation["operationId"] for _, operation in operations() if "operationId" in operation]
    assert len(ids) == len(set(ids))


def test_each_operation_has_answers_parameters_and_security() -> None:
    schemes = OPENAPI["components"]["securitySchemes"]
    for path, operation in operations():
        assert operation["responses"]
        assert all(answer["description"] for answer in operation["responses"].values())
        assert all(re.fullmatch(r"[1-5]\d\d|[1-5]XX|default", status) for status in operation["responses"])
        parameters = operation.get("parameters", [])
        assert {each["name"] for each in parameters if each["in"] == "path"} == set(re.findall(r"\{(\w+)\}", path))
        assert all(each["schema"] and (each["required"] or each["in"] != "path") for each in parameters)
        assert {name for each in operation["security"] for name in each} <= set(schemes)
        assert operation.get("requestBody", {"content": True})["content"]


def test_every_route_is_described_or_private() -> None:
    described = {(path, method) for path, item in OPENAPI["paths"].items() for method in item}
    served = {*paths_and_methods(routes())}
    assert described == {(path, method) for path, method in served if path not in PRIVATE}
    assert (RESULTS_PATH, "post") in described
    assert set(PRIVATE) <= {path for path, _ in served}


def test_a_route_that_is_not_described_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = {place: each for place, each in openapi.ENDPOINTS.items() if place[0] != RESULTS_PATH}
    monkeypatch.setattr(openapi, "ENDPOINTS", fewer)
    with pytest.raises(openapi.Undocumented, match="post /queue/results: describe it"):
        openapi.openapi()


def test_a_description_without_a_route_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {**openapi.ENDPOINTS, ("/gone", "get"): openapi.Endpoint({"responses": {}})}
    monkeypatch.setattr(openapi, "ENDPOINTS", more)
    with pytest.raises(openapi.Undocumented, match="/gone"):
        openapi.openapi()


# AsyncAPI


def test_asyncapi_has_what_the_specification_requires() -> None:
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    assert ASYNCAPI["info"]["title"]
    assert ASYNCAPI["info"]["version"]
    for server in ASYNCAPI["servers"].values():
        assert server["protocol"]
        assert set(re.findall(r"\{(\w+)\}", server["host"])) == set(server["variables"])
    for operation in ASYNCAPI["operations"].values():
        assert operation["action"] in {"send", "receive"}
        channel = operation["channel"]["$ref"]
        assert all(each["$ref"].startswith(f"{channel}/messages/") for each in operation["messages"])


def test_each_message_queue_has_channels_for_requests_results_and_verdicts() -> None:
    queues = {Nats.name, *OPTIONAL} - {"webhook"}  # whose verdicts are in its answers
    for queue in queues:
        assert {f"{queue}-requests", f"{queue}-results", f"{queue}-verdicts"} <= set(ASYNCAPI["channels"])
    assert {name.partition("-")[0] for name in ASYNCAPI["channels"]} == {*queues, "webhook"}


def test_each_channel_names_its_parameters_and_messages() -> None:
    assert set(ASYNCAPI["channels"]) == set(ASYNCAPI["operations"])
    for channel in ASYNCAPI["channels"].values():
        assert channel["messages"]
        assert set(re.findall(r"\{(\w+)\}", channel["address"] or "")) == set(channel.get("parameters", {}))
        assert channel["address"] is None or channel["address"]


def test_the_payload_of_each_message_is_a_published_schema() -> None:
    payloads = {each["payload"]["schema"]["$ref"] for each in ASYNCAPI["components"]["messages"].values()}
    assert payloads <= set(DOCUMENTS)
    assert all(
        each["payload"]["schemaFormat"] == "application/schema+json;version=draft-2020-12"
        for each in ASYNCAPI["components"]["messages"].values()
    )
