"""Describe the HTTP endpoints of the oracle that annotation tools call, as OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from configuration import variable
from labelloop.errors import InvalidInput, LabelloopError, LimitExceeded, NotAllowed, NotFound, Unready, WrongState
from labelloop.http.error_status import STATUS_FOR_TOOLS, http_status

from oracle_svc.integrations.label_studio.client import SECRET_HEADER
from oracle_svc.integrations.label_studio.endpoints import ML_PATH, WEBHOOK_PATH
from oracle_svc.integrations.webhook.integration import (
    BODY_BYTES_MAX,
    REQUESTED,
    RESULTS_PATH,
    RETRACTED,
    TAKE_NO_RETRACTION,
    WebhookSettings,
)
from oracle_svc.integrations.webhook.signatures import ID, SIGNATURE, TIMESTAMP, TOLERANCE_S
from oracle_svc.samples.signed_urls import PATH
from oracle_svc.web.settings import WebSettings
from schemas.envelopes import ANSWER_FILE, REQUESTED_FILE, RETRACTED_FILE, SUBMITTED_FILE
from schemas.json_schema import Schema
from schemas.routes import PRIVATE, paths_and_methods, routes

FILE = "openapi.json"
_SIGNED = (
    f"Signed as Standard Webhooks defines it: HMAC-SHA256 with the secret of {variable(WebhookSettings, 'secret')}, "
    f"base64-decoded without its prefix, over `<{ID}>.<{TIMESTAMP}>.<body>`; {SIGNATURE} is `v1,` and the base64 of it."
)
_ERRORS: Mapping[type[LabelloopError], str] = {
    InvalidInput: "The body is not what is described here.",
    NotAllowed: "The signature, secret or key is wrong or missing.",
    NotFound: "There is no such thing, or the oracle does not show it.",
    WrongState: "The id was used for other content, or the run no longer takes this.",
    LimitExceeded: "The body is too large.",
    Unready: "Not possible now: send the same again, after Retry-After.",
}
_IN_SAMPLES: Mapping[type[LabelloopError], str] = {
    NotAllowed: "The key opens no sample.",
    NotFound: "The run does not ask people for this sample, or it cannot be read.",
    WrongState: "The run is archived or deleted.",
}


class Undocumented(Exception):
    """A route is neither described nor listed as private, or a description belongs to no route."""


@dataclass(frozen=True)
class Endpoint:
    """The description of a route.

    Attributes:
        operation: Its OpenAPI operation, without errors.
        errors: What the route answers instead, by status.
    """

    operation: Schema
    errors: Mapping[int, str] = field(default_factory=dict)

    @property
    def described(self) -> Schema:
        told = {
            str(status): {"description": about, **_json({"$ref": "#/components/schemas/Error"})}
            for status, about in sorted(self.errors.items())
        }
        return {**self.operation, "responses": {**self.operation["responses"], **told}}


def openapi() -> Schema:
    """Return the document. Raises Undocumented."""
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "labelloop oracle",
            "version": "1",
            "description": "What annotation tools call on the oracle's HTTP port "
            f"({variable(WebSettings, 'http_port')}), and what the webhook integration calls. The labelling page's "
            "own endpoints are not part of this contract.",
        },
        "servers": [
            {
                "url": "{oracle}",
                "variables": {
                    "oracle": {
                        "default": "http://127.0.0.1:8080",
                        "description": f"The address of that port; {variable(WebSettings, 'http_url')} if it is set.",
                    }
                },
            }
        ],
        "paths": _paths(),
        "webhooks": {
            REQUESTED: {"post": _webhook("Requests to label.", REQUESTED_FILE)},
            RETRACTED: {"post": _webhook("Requests that need no result any more.", RETRACTED_FILE, TAKE_NO_RETRACTION)},
        },
        "components": {"schemas": {"Error": _ERROR}, "securitySchemes": _SECURITY},
    }


def _paths() -> Schema:
    served = list(paths_and_methods(routes()))
    described: Schema = {}
    for path, method in served:
        if endpoint := ENDPOINTS.get((path, method)):
            described.setdefault(path, {})[method] = endpoint.described
        elif path not in PRIVATE:
            raise Undocumented(f"{method} {path}: describe it in schemas.openapi, or list it in schemas.routes")
    if gone := {*ENDPOINTS} - {*served} | {*PRIVATE} - {path for path, _ in served}:
        raise Undocumented(f"the oracle does not serve {sorted(map(str, gone))}")
    return described


def _webhook(summary: str, file_name: str, ignored: Sequence[str] = ()) -> Schema:
    """Return what the oracle calls; it takes the statuses ``ignored`` for an answer of a receiver that needs no such
    message."""
    return {
        "summary": summary,
        "description": f"Sent by POST to {variable(WebhookSettings, 'url')}. {_SIGNED} Each try of a message has the "
        f"same {ID} and a new signature.",
        "security": [{"signature": []}],
        "parameters": _SIGNATURE_PARAMETERS,
        "requestBody": {"required": True, **_json({"$ref": file_name})},
        "responses": {
            "2XX": {"description": "The message was taken; a body is not read."},
            "408": {"description": "Sent again later."},
            "425": {"description": "Sent again later."},
            "429": {"description": "Sent again later, after Retry-After."},
            "5XX": {"description": "Sent again later, after Retry-After if it is given."},
            **{status: {"description": "The message is not needed; it is not sent again."} for status in ignored},
            "default": {"description": "The message is refused, which holds up its run until an operator acts."},
        },
    }


def _json(schema: Schema) -> Schema:
    return {"content": {"application/json": {"schema": schema}}}


def _for_tools(*kinds: type[LabelloopError], **words: str) -> dict[int, str]:
    return {STATUS_FOR_TOOLS[kind]: words.get(kind.__name__, _ERRORS[kind]) for kind in kinds}


def _of_label_studio(about: str, answer: str) -> Endpoint:
    operation: Schema = {
        "summary": about,
        "tags": ["label-studio"],
        "security": [{"secret": []}, {"basic": []}],
        "requestBody": {"required": True, **_json({"type": "object", "description": "As Label Studio sends it."})},
        "responses": {"200": {"description": answer, **_json({"type": "object"})}},
    }
    return Endpoint(operation, _for_tools(InvalidInput, NotAllowed, LimitExceeded, Unready))


_ERROR: Schema = {
    "type": "object",
    "properties": {
        "reason": {"type": "string", "description": "Stable and UPPER_SNAKE, for programs."},
        "message": {"type": "string", "description": "What is wrong and what to do, for people."},
    },
    "required": ["reason", "message"],
}
_SECURITY: Schema = {
    "signature": {"type": "apiKey", "in": "header", "name": SIGNATURE, "description": _SIGNED},
    "key": {"type": "apiKey", "in": "query", "name": "key", "description": "Part of the link in a request's uri."},
    "secret": {"type": "apiKey", "in": "header", "name": SECRET_HEADER},
    "basic": {"type": "http", "scheme": "basic", "description": "Any user; the secret is the password."},
}
_SIGNATURE_PARAMETERS: list[Schema] = [
    {"name": name, "in": "header", "required": True, "description": about, "schema": {"type": "string"}}
    for name, about in (
        (ID, "Names the message: the same for each try of it, and another for another message."),
        (TIMESTAMP, f"When it was signed, in seconds since 1970; at most {TOLERANCE_S:.0f} s from now."),
        (SIGNATURE, "One or several signatures, separated by spaces: one that is right is enough."),
    )
]
_RUN: Schema = {"name": "run_id", "in": "path", "required": True, "schema": {"type": "string"}}
ENDPOINTS: Mapping[tuple[str, str], Endpoint] = {
    (RESULTS_PATH, "post"): Endpoint(
        {
            "operationId": "submitResults",
            "summary": "Submit results",
            "description": f"At most {BODY_BYTES_MAX} bytes. {_SIGNED}",
            "tags": ["webhook"],
            "security": [{"signature": []}],
            "parameters": _SIGNATURE_PARAMETERS,
            "requestBody": {"required": True, **_json({"$ref": SUBMITTED_FILE})},
            "responses": {"200": {"description": "All of it is durable.", **_json({"$ref": ANSWER_FILE})}},
        },
        _for_tools(InvalidInput, NotAllowed, WrongState, LimitExceeded, Unready),
    ),
    (f"{PATH}/{{run_id}}/{{sample_id}}", "get"): Endpoint(
        {
            "operationId": "getSample",
            "summary": "Get a large sample, at the link in its request",
            "description": "Use the uri of the request as it is. Open to pages of any site.",
            "tags": ["samples"],
            "security": [{"key": []}],
            "parameters": [
                _RUN,
                {"name": "sample_id", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}},
            ],
            "responses": {
                "200": {
                    "description": "The sample, with the media_type of its request. The ETag is its SHA-256.",
                    "content": {"*/*": {}},
                },
                "304": {"description": "It is what If-None-Match names."},
            },
        },
        {http_status(kind("", "")): about for kind, about in _IN_SAMPLES.items()},
    ),
    (WEBHOOK_PATH, "post"): _of_label_studio("Tell of changed annotations", "They were read."),
    (f"{ML_PATH}/setup", "post"): _of_label_studio("Set up the ML backend", "The version of the model."),
    (f"{ML_PATH}/predict", "post"): _of_label_studio("Predict tasks", "Predictions as Label Studio takes them."),
    (f"{ML_PATH}/webhook", "post"): _of_label_studio("Tell the ML backend of annotations", "Nothing is done."),
    (f"{ML_PATH}/health", "get"): Endpoint(
        {
            "summary": "Whether the ML backend answers",
            "tags": ["label-studio"],
            "security": [],
            "responses": {"200": {"description": "It does.", **_json({"type": "object"})}},
        }
    ),
    ("/healthz", "get"): Endpoint(
        {
            "operationId": "getHealth",
            "summary": "Whether the port answers",
            "security": [],
            "responses": {"200": {"description": "It does.", "content": {"text/plain": {}}}},
        }
    ),
}
