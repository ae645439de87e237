"""Serve a model by Ray Serve: a gRPC proxy and one replica."""

# The library is in an environment of its own.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import signal
import sys
from typing import Any

import grpc
import ray
from google.protobuf.wrappers_pb2 import BytesValue
from ray import serve
from ray.serve.config import HTTPOptions, gRPCOptions

from tests.bench.peers.softmax_model import SoftmaxModel


class Scorer:
    def __init__(self, model_file: str) -> None:
        self._model = SoftmaxModel(model_file)

    async def Score(self, request: BytesValue) -> BytesValue:  # noqa: N802  # gRPC names its methods
        return BytesValue(value=self._model.answer(request.value))


def add_scorer_to_server(servicer: Any, server: Any) -> None:
    """Register it as generated code would."""
    handler = grpc.unary_unary_rpc_method_handler(servicer.Score, BytesValue.FromString, BytesValue.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Scorer", {"Score": handler}),))


def start(model_file: str, http_port: int, grpc_port: int, folder: str) -> None:
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", _temp_dir=folder)
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=http_port),
        grpc_options=gRPCOptions(
            port=grpc_port, grpc_servicer_functions=["tests.bench.peers.ray_server.add_scorer_to_server"]
        ),
    )
    serve.run(serve.deployment(max_ongoing_requests=100)(Scorer).bind(model_file))


if __name__ == "__main__":
    start(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[5])
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
