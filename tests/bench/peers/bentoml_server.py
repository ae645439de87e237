"""BentoML with one worker. Its own API takes JSON or files; a mounted app, also supported, takes plain bytes."""

# The library is in an environment of its own.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import os
import sys

import bentoml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.bench.peers.softmax_model import SoftmaxModel

_MODEL = "BENCH_MODEL"  # the worker is a process that BentoML starts


class Scorer:
    pass


async def score(request: Request) -> Response:
    return Response(model.answer(await request.body()), media_type="application/octet-stream")


if __name__ == "__main__":
    model_file, http_port = sys.argv[1:3]
    os.environ[_MODEL] = model_file
    where = ["--host", "127.0.0.1", "--port", http_port, "--api-workers", "1"]
    os.execv(
        sys.executable, [sys.executable, "-m", "bentoml", "serve", "tests.bench.peers.bentoml_server:service", *where]
    )

model = SoftmaxModel(os.environ[_MODEL])
service = bentoml.asgi_app(Starlette(routes=[Route("/score", score, methods=["POST"])]), path="/raw")(
    bentoml.service(Scorer)
)
