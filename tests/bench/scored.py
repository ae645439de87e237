"""A scorer with a model, and the expected classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np
import onnxruntime
from labelloop.artifacts.opening import open_store
from labelloop.errors import Corrupt
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.inference.v2.inference_pb2 import ModelInferRequest, ModelInferResponse
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop.trainer.v1.trainer_pb2 import GetModelRequest
from labelloop_cli.clients import connect
from labelloop_cli.local.stack import running
from numpy.typing import NDArray

from tests.bench.article import mnist
from tests.bench.cores import starting_on
from tests.bench.posting import Posted, grpc_call
from tests.bench.services import warm_up

UNARY = "/labelloop.scorer.v1.ScorerService/Score"
INFER = "/inference.GRPCInferenceService/ModelInfer"
RUN = "first_10-warm"
"""The run whose model ModelInfer asks for; it is that of ``model`` only where that is none of the caller's."""
STREAM = "/labelloop.scorer.v1.ScorerService/ScoreStream"


@dataclass(frozen=True)
class Scored:
    """``images`` are [n, 784] uint8; ``classes`` [n] are the predictions of ONNX Runtime with ``model``."""

    address: str
    rest: str
    pid: int
    digest: str
    model: bytes
    images: NDArray[np.uint8]
    classes: NDArray[np.int64]

    def request(self, first: int, count: int) -> pb.ScoreRequest:
        images = self.images[first : first + count].tobytes()
        return pb.ScoreRequest(model_sha256=self.digest, dtype="uint8", images=images)

    async def unary(self, count: int) -> Posted:
        """Prepare Score with ``count`` images a message, after checking its answers for all images."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            score = channel.unary_unary(UNARY, pb.ScoreRequest.SerializeToString, pb.ScoreResponse.FromString)
            answers = [await score(self.request(first, count)) for first in range(0, len(self.images), count)]
        check(self, np.concatenate([answer.predicted for answer in answers]), "the scorer")
        return grpc_call(
            self.address, UNARY, [self.request(0, count).SerializeToString()], [answers[0].ByteSize()], self.pid
        )

    async def infer(self, count: int) -> Posted:
        """Prepare ModelInfer with ``count`` images a message, after checking its answers for all images.

        It asks for what ``Score`` gives: the class and its probability.
        """
        requests = [self.infer_request(first, count) for first in range(0, len(self.images), count)]
        async with grpc.aio.insecure_channel(self.address) as channel:
            ask = channel.unary_unary(INFER, ModelInferRequest.SerializeToString, ModelInferResponse.FromString)
            answers = [await ask(request) for request in requests]
        predicted = [np.frombuffer(answer.raw_output_contents[0], "<i8") for answer in answers]
        check(self, np.concatenate(predicted), "the scorer's ModelInfer")
        return grpc_call(self.address, INFER, [requests[0].SerializeToString()], [answers[0].ByteSize()], self.pid)

    def infer_request(self, first: int, count: int) -> ModelInferRequest:
        images = self.images[first : first + count]
        tensor = ModelInferRequest.InferInputTensor(name="samples", datatype="UINT8", shape=images.shape)
        outputs = [ModelInferRequest.InferRequestedOutputTensor(name=name) for name in ("predicted", "confidence")]
        return ModelInferRequest(
            model_name=RUN, inputs=[tensor], outputs=outputs, raw_input_contents=[images.tobytes()]
        )

    async def stream(self, messages: int, count: int) -> Posted:
        """Prepare ScoreStream with ``messages`` messages of ``count`` images, after checking its answers."""
        requests = [
            pb.ScoreStreamRequest(score=self.request(number * count % len(self.images), count))
            for number in range(messages)
        ]
        async with grpc.aio.insecure_channel(self.address) as channel:
            encode, decode = pb.ScoreStreamRequest.SerializeToString, pb.ScoreStreamResponse.FromString
            answers = [answer async for answer in channel.stream_stream(STREAM, encode, decode)(iter(requests))]
        predicted = np.concatenate([answer.score.predicted for answer in answers])
        check(self, predicted[: len(self.images)], "the scorer's stream")
        bodies = [request.SerializeToString() for request in requests]
        return grpc_call(self.address, STREAM, bodies, [answer.ByteSize() for answer in answers], self.pid)


def check(scored: Scored, predicted: NDArray[Any], who: str) -> None:
    """Raise Corrupt if ``who`` classifies an image differently from ONNX Runtime."""
    wrong = int((predicted != scored.classes).sum())
    if wrong:
        message = f"{who} gives {wrong} of {len(scored.classes)} images another class than ONNX Runtime"
        raise Corrupt("WRONG_CLASSES", message, who=who)


@asynccontextmanager
async def scorer_on(core: int, image_count: int = 256, model: bytes = b"") -> AsyncIterator[Scored]:
    """Run the services with ``model`` or one of the article's; all run on ``core``, only the scorer is busy."""
    images = mnist().samples[:image_count].reshape(image_count, -1)
    async with AsyncExitStack() as exits:
        store = Path(exits.enter_context(TemporaryDirectory()))
        with starting_on(core):
            stack = await exits.enter_async_context(running(store, rest_port=0))
        clients = await exits.enter_async_context(connect(stack.endpoints))
        await warm_up(clients, "warm")
        if model:
            digest = await _put(stack.nats_url, model)
        else:
            answer = await clients.trainer.GetModel(GetModelRequest(run_id=RUN))
            digest, model = answer.model_sha256, answer.model
        process = stack.services["scorer"].process
        assert process is not None, "services are up"
        rest = f"127.0.0.1:{stack.services['scorer'].rest_port}"
        yield Scored(stack.endpoints.scorer, rest, process.pid, digest, model, images, _classes(model, images))


async def _put(nats_url: str, data: bytes) -> str:
    broker = await connect_broker(nats_url, "bench")
    try:
        return await open_store("jetstream:", broker).put(data)
    finally:
        await broker.close()


def _classes(model: bytes, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    probabilities: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images})[0]
    classes: NDArray[np.int64] = probabilities.argmax(1)
    return classes
