"""Describe the queues and subjects on which the oracle and annotation tools exchange messages, as AsyncAPI 3.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from configuration import description, variable
from labelloop.eventlog.streams import queue
from pydantic_settings import BaseSettings

from oracle_svc.integrations.amqp import AmqpSettings
from oracle_svc.integrations.nats import REQUESTS, RESULTS, STREAM, VERDICTS
from oracle_svc.integrations.sqs import BODY_BYTES_MAX, SqsSettings
from oracle_svc.integrations.webhook.integration import RESULTS_PATH, WebhookSettings
from oracle_svc.result_json import RESULT_BYTES_MAX
from schemas.envelopes import REQUESTED_FILE, RETRACTED_FILE, SUBMITTED_FILE
from schemas.json_schema import Schema
from schemas.messages import REQUEST, RESULT, VERDICT

FILE = "asyncapi.json"
_FORMAT = "application/schema+json;version=draft-2020-12"
_DAY_S = 24 * 3600


class Channel(NamedTuple):
    """A subject, a queue or an address of one integration.

    Attributes:
        server: The server of the document that it is on.
        address: Its address; None if a setting gives it.
        about: What a reader has to know beside the messages.
        file_name: The schema of its messages.
        is_sent: Whether the oracle sends them; otherwise it receives them.
        bindings: What the protocol adds, as AsyncAPI's bindings.
        parameters: What the parts in braces of the address are.
    """

    server: str
    address: str | None
    about: str
    file_name: str
    is_sent: bool
    bindings: Schema
    parameters: Mapping[str, str] = {}


def asyncapi() -> Schema:
    """Return the document."""
    channels = _channels()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "labelloop oracle",
            "version": "1",
            "description": "The application of this document is the oracle: it sends requests to label and verdicts, "
            f"and receives results, of at most {RESULT_BYTES_MAX} bytes. A tool does the opposite.",
        },
        "defaultContentType": "application/json",
        "servers": {name: dict(server) for name, server in _SERVERS.items()},
        "channels": {name: _described(name, channel) for name, channel in channels.items()},
        "operations": {name: _operation(name, channel) for name, channel in channels.items()},
        "components": {
            "messages": {_name(each): _message(each) for each in sorted({each.file_name for each in channels.values()})}
        },
    }


def _described(name: str, channel: Channel) -> Schema:
    message = _name(channel.file_name)
    described: Schema = {
        "address": channel.address,
        "description": channel.about,
        "servers": [{"$ref": f"#/servers/{channel.server}"}],
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": channel.bindings,
    }
    if channel.parameters:
        described["parameters"] = {part: {"description": about} for part, about in channel.parameters.items()}
    return described


def _operation(name: str, channel: Channel) -> Schema:
    return {
        "action": "send" if channel.is_sent else "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{_name(channel.file_name)}"}],
    }


def _message(file_name: str) -> Schema:
    return {"contentType": "application/json", "payload": {"schemaFormat": _FORMAT, "schema": {"$ref": file_name}}}


def _name(file_name: str) -> str:
    return file_name.removesuffix(".schema.json")


def _setting(kind: type[BaseSettings], name: str) -> str:
    return f"{variable(kind, name)}: {description(kind, name)}."


def _default(kind: type[BaseSettings], name: str) -> str:
    return str(kind.model_fields[name].default)


def _amqp(setting: str) -> Schema:
    declared = {"name": _default(AmqpSettings, setting), "durable": True, "exclusive": False, "autoDelete": False}
    return {"amqp": {"is": "queue", "queue": declared, "bindingVersion": "0.3.0"}}


def _http() -> Schema:
    return {"http": {"bindingVersion": "0.3.0"}}


def _channels() -> dict[str, Channel]:
    kept = f"The stream {STREAM} keeps messages for {queue().kept_s // _DAY_S} days."
    return {
        "nats-requests": Channel(
            "nats",
            f"{REQUESTS}.{{run}}.{{round}}.{{sample}}.{{slot}}",
            f"Read it with a durable consumer of your own, filtered by run, or by run and slot. {kept}",
            REQUEST.file_name,
            True,
            {"nats": {}},
            {
                "run": "run_id of the request.",
                "round": "round of the request.",
                "sample": "sample_id of the request.",
                "slot": "slot of the request: which of the sample's annotators.",
            },
        ),
        "nats-results": Channel(
            "nats",
            f"{RESULTS}.{{run}}",
            f"Publish with JetStream, and wait for its confirmation: results wait for an oracle that is away. {kept}",
            RESULT.file_name,
            False,
            {"nats": {}},
            {"run": "run_id of the request."},
        ),
        "nats-verdicts": Channel(
            "nats",
            f"{VERDICTS}.{{run}}",
            f"What became of each result. {kept}",
            VERDICT.file_name,
            True,
            {"nats": {}},
            {"run": "run_id of the request."},
        ),
        "amqp-requests": Channel(
            "amqp",
            _default(AmqpSettings, "requests"),
            f"{_setting(AmqpSettings, 'requests')} Acknowledge a request after its result is confirmed.",
            REQUEST.file_name,
            True,
            _amqp("requests"),
        ),
        "amqp-results": Channel(
            "amqp",
            _default(AmqpSettings, "results"),
            f"{_setting(AmqpSettings, 'results')} Publish, persistent, to the default exchange, with the name of the "
            "queue as routing key.",
            RESULT.file_name,
            False,
            _amqp("results"),
        ),
        "amqp-verdicts": Channel(
            "amqp",
            None,
            f"{_setting(AmqpSettings, 'verdicts')} A result whose reply_to is a queue that the broker named for its "
            "client (direct reply-to, or amq.gen-...) is answered there instead, with its correlation_id.",
            VERDICT.file_name,
            True,
            {},
        ),
        "sqs-requests": Channel(
            "sqs",
            None,
            f"{_setting(SqsSettings, 'requests_url')} At most {BODY_BYTES_MAX} bytes a message.",
            REQUEST.file_name,
            True,
            {},
        ),
        "sqs-results": Channel("sqs", None, _setting(SqsSettings, "results_url"), RESULT.file_name, False, {}),
        "sqs-verdicts": Channel("sqs", None, _setting(SqsSettings, "verdicts_url"), VERDICT.file_name, True, {}),
        "webhook-requested": Channel("webhook", None, _setting(WebhookSettings, "url"), REQUESTED_FILE, True, _http()),
        "webhook-retracted": Channel("webhook", None, _setting(WebhookSettings, "url"), RETRACTED_FILE, True, _http()),
        "webhook-submitted": Channel(
            "oracle", RESULTS_PATH, "By POST; openapi.json has signatures and answers.", SUBMITTED_FILE, False, _http()
        ),
    }


def _server(protocol: str, about: str, host: str) -> Schema:
    return {
        "host": "{host}",
        "protocol": protocol,
        "description": about,
        "variables": {"host": {"default": host, "description": "Of your installation."}},
    }


_SERVERS: Mapping[str, Schema] = {
    "nats": _server("nats", "The broker of labelloop itself.", "127.0.0.1:4222"),
    "amqp": _server("amqp", _setting(AmqpSettings, "url"), "127.0.0.1:5672"),
    "sqs": _server("sqs", _setting(SqsSettings, "endpoint_url"), "sqs.us-east-1.amazonaws.com"),
    "webhook": _server("http", _setting(WebhookSettings, "url"), "127.0.0.1:9000"),
    "oracle": _server("http", "The HTTP port of the oracle.", "127.0.0.1:8080"),
}
