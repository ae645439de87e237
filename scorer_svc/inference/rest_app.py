"""Serve the Open Inference Protocol over HTTP."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from google.protobuf.json_format import MessageToDict
from labelloop.errors import InvalidInput, LabelloopError, NotFound, to_status
from labelloop.http.connections import CALLER
from labelloop.http.error_status import http_status, retry_headers
from labelloop.http.request_body import read_body
from labelloop.rpc.callers import CheckOf
from labelloop.rpc.server import REQUEST_BYTES_MAX
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scorer_svc.inference.engine import Inference
from scorer_svc.inference.metadata import model_config, model_metadata, server_metadata
from scorer_svc.inference.outputs import outputs_of
from scorer_svc.inference.rest_messages import RestRequest, read_request, write_response
from scorer_svc.inference.service import SERVICE
from scorer_svc.metrics import REST_CALLS, REST_SECONDS

_HEADER_LENGTH = "Inference-Header-Content-Length"
_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)
_BINARY, _JSON = "application/octet-stream", "application/json"
_INLINE_BYTES = 64 * 1024  # of JSON, parsed in a millisecond or two
_ADVICE = "post fewer samples, or as binary data"

Endpoint = Callable[[Request], Awaitable[Response]]


def rest_app(inference: Inference, check_of: CheckOf) -> Starlette:
    """Return the application; ``check_of`` gives the check of callers for a method, as over gRPC."""
    service = _Rest(inference)
    routes: list[tuple[str, str, str, Endpoint]] = [
        ("GET", "/v2", "ServerMetadata", service.server),
        ("GET", "/v2/health/live", "ServerLive", service.live),
        ("GET", "/v2/health/ready", "ServerReady", service.server_ready),
    ]
    for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        routes += [
            ("GET", model, "ModelMetadata", service.model),
            ("GET", f"{model}/ready", "ModelReady", service.ready),
            ("GET", f"{model}/config", "ModelConfig", service.config),
            ("POST", f"{model}/infer", "ModelInfer", service.infer),
        ]
    made = [
        Route(path, _checked(endpoint, method, check_of), methods=[verb]) for verb, path, method, endpoint in routes
    ]
    return Starlette(routes=made, exception_handlers={HTTPException: _no_route})


class _Rest:
    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def server_ready(self, request: Request) -> Response:
        return JSONResponse({"ready": True})

    async def server(self, request: Request) -> Response:
        return JSONResponse(server_metadata())

    async def ready(self, request: Request) -> Response:
        name, version = _named(request)
        if not await self._inference.is_ready(name, version):
            raise NotFound("NOT_READY", f"model {name[:100]!r} {version[:100]} is not ready".replace("  ", " "))
        return JSONResponse({"name": name, "ready": True})

    async def model(self, request: Request) -> Response:
        named, model = await self._inference.model(*_named(request))
        shape, versions = self._inference.sample_shape(named, model), self._inference.names.versions(named.name)
        return JSONResponse(model_metadata(named, model, versions, shape))

    async def config(self, request: Request) -> Response:
        named, model = await self._inference.model(*_named(request))
        config = model_config(named, model, self._inference.sample_shape(named, model))
        told = MessageToDict(config, preserving_proto_field_name=True)
        for each in (*told["input"], *told["output"]):
            each["dims"] = [int(size) for size in each["dims"]]  # which protobuf writes as strings
        return JSONResponse(told)

    async def infer(self, request: Request) -> Response:
        asked = await self._read(request)
        named, model = await self._inference.model(*_named(request))
        response = await self._inference.infer(named, model, asked.inputs, asked.outputs)
        value_count = len(response.probabilities) + 2 * len(response.predicted)

        def written() -> tuple[bytes, int | None]:
            return write_response(named, asked, outputs_of(response, asked.outputs))

        body, json_bytes = await self._inference.converted(value_count, written)
        if json_bytes is None:
            return Response(body, media_type=_JSON)
        return Response(body, media_type=_BINARY, headers={_HEADER_LENGTH: str(json_bytes)})

    async def _read(self, request: Request) -> RestRequest:
        if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
            message = f"Content-Encoding is {encoding[:100]!r}: send bodies as they are"
            raise InvalidInput("BAD_ENCODING", message, field="body")
        json_bytes = _json_bytes(request)
        body = await read_body(request, REQUEST_BYTES_MAX, _ADVICE)
        size = len(body) if json_bytes is None else json_bytes
        value_count = 0 if size <= _INLINE_BYTES else size
        return await self._inference.converted(value_count, read_request, body, json_bytes)


def _named(request: Request) -> tuple[str, str]:
    return request.path_params["name"], request.path_params.get("version", "")


def _json_bytes(request: Request) -> int | None:
    """Return of how many bytes the JSON before binary data is; None without binary data."""
    told = request.headers.get(_HEADER_LENGTH)
    if told is None:
        return None
    if not _NUMBER.fullmatch(told):
        message = f"{_HEADER_LENGTH} is {told[:100]!r}: it must be a number of bytes"
        raise InvalidInput("BAD_REQUEST", message, field=_HEADER_LENGTH)
    return int(told)


class _Caller:
    """What checks of callers ask of gRPC's context."""

    def __init__(self, request: Request) -> None:
        self._names = getattr(request.state, CALLER, ())

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_common_name": [name.encode() for name in self._names]}


def _checked(endpoint: Endpoint, method: str, check_of: CheckOf) -> Endpoint:
    """Wrap an endpoint: callers that may not call are refused, errors told as the protocol does, calls counted."""
    check: Callable[[Any], None] = check_of(SERVICE, method)

    async def answered(request: Request) -> Response:
        began_s = perf_counter()
        try:
            check(_Caller(request))
            response = await endpoint(request)
        except LabelloopError as error:
            response = _error(to_status(error).message, http_status(error), retry_headers(error))
        REST_CALLS.labels(method, str(response.status_code)).inc()
        REST_SECONDS.labels(method).observe(perf_counter() - began_s)
        return response

    return answered


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "it is registered for these"
    message = f"{request.method} {request.url.path[:200]}: {error.detail}"
    return _error(message, error.status_code, dict(error.headers or {}))


def _error(message: str, status: int, headers: dict[str, str]) -> Response:
    return JSONResponse({"error": message}, status_code=status, headers=headers)
