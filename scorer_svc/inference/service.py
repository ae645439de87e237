"""Serve the Open Inference Protocol over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from labelloop.errors import LabelloopError, to_status
from labelloop.inference.v2 import inference_pb2 as pb
from labelloop.inference.v2.inference_pb2_grpc import GRPCInferenceServiceServicer
from labelloop.rpc.server import Context

from scorer_svc.inference.engine import Inference
from scorer_svc.inference.grpc_messages import (
    inputs_of,
    outputs_asked,
    refused,
    response_bytes,
    streamed,
)
from scorer_svc.inference.metadata import model_config, model_metadata, server_metadata
from scorer_svc.inference.outputs import raw_outputs

SERVICE = "inference.GRPCInferenceService"
_ENDS_STREAM = ("triton_grpc_error", "true")  # a client that sends this wants statuses instead of error messages


class InferenceService(GRPCInferenceServiceServicer):
    """The gRPC methods of the protocol. Answers of inferences are bytes, which protobuf need not make again."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=True)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=await self._inference.is_ready(request.name, request.version))

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(**server_metadata())

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        named, model = await self._inference.model(request.name, request.version)
        shape, versions = self._inference.sample_shape(named, model), self._inference.names.versions(named.name)
        return pb.ModelMetadataResponse(**model_metadata(named, model, versions, shape))

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        named, model = await self._inference.model(request.name, request.version)
        return pb.ModelConfigResponse(config=model_config(named, model, self._inference.sample_shape(named, model)))

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> bytes:  # type: ignore[override]
        remaining_s = context.time_remaining()
        if remaining_s is not None and remaining_s <= 0:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the work began")
        return await self._answer(request)

    def infer_at_once(self, request: pb.ModelInferRequest, context: Context) -> bytes | None:
        """Answer most small calls of ``ModelInfer`` for classes alone without waiting; None leaves a call to it.

        Raises:
            LabelloopError: What :meth:`ModelInfer` would raise.
        """
        remaining_s = context.time_remaining()
        if remaining_s is not None and remaining_s <= 0:
            return None
        names, inputs = outputs_asked(request), inputs_of(request)
        found = self._inference.infer_at_once(request.model_name, request.model_version, inputs, names)
        if found is None:
            return None
        named, response = found
        return response_bytes(named, len(response.predicted), names, raw_outputs(response, names), request.id)

    async def ModelStreamInfer(  # type: ignore[override]
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> AsyncIterator[bytes]:
        ends = _ENDS_STREAM in [tuple(each) for each in context.invocation_metadata() or ()]
        async for request in requests:
            try:
                yield streamed(await self._answer(request))
            except LabelloopError as error:
                if ends:
                    raise
                yield refused(request.id, to_status(error).message)

    async def _answer(self, request: pb.ModelInferRequest) -> bytes:
        names, inputs = outputs_asked(request), inputs_of(request)
        named, model = await self._inference.model(request.model_name, request.model_version)
        response = await self._inference.infer(named, model, inputs, names)
        count = len(response.predicted)
        raw = await self._inference.converted(len(response.probabilities) + 2 * count, raw_outputs, response, names)
        return response_bytes(named, count, names, raw, request.id)
