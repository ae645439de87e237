"""A scorer's Open Inference Protocol in this process: real servers and models, without a broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
import numpy as np
from labelloop.artifacts.store import digest_of
from labelloop.errors import NotFound
from labelloop.eventlog.log import Recorded
from labelloop.events.v1.events_pb2 import Event, LabelsRequested, ModelTrained, PoolPublished, RunStarted
from labelloop.inference.v2.inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from labelloop.rpc.server import Server
from labelloop.runtime.async_cache import AsyncCache
from numpy.typing import NDArray

from scorer_svc.call_bounds import CALL_BOUNDS
from scorer_svc.config import ScorerSettings
from scorer_svc.inference.engine import Inference
from scorer_svc.inference.naming import ModelNames
from scorer_svc.inference.rest_server import RestServer
from scorer_svc.inference.service import InferenceService
from scorer_svc.models.model import Model
from scorer_svc.models.warmup import ModelWarmup
from scorer_svc.scoring.score import Scoring
from tests.unused import UNUSED
from trainer_svc.model.onnx_export import to_onnx

CLASSES, SHAPE = 3, (6, 6)
PIXELS = 36


def model_bytes(seed: int, dtype: str = "uint8") -> bytes:
    """Return a softmax model of images of 36 pixels."""
    weights = np.random.default_rng(seed).normal(0, 1, (CLASSES, PIXELS + 1)).astype(np.float32)
    return to_onnx(weights, dtype)


class Runs:
    """Runs written by a test, and the models that they name."""

    def __init__(self) -> None:
        self.models: dict[str, bytes] = {}
        self.newest = ModelWarmup(UNUSED, UNUSED)
        self._count = 0

    def write(self, run_id: str, round_: int = 0, **payload: Any) -> None:
        self._count += 1
        event = Event(run_id=run_id, round=round_, **payload)
        self.newest.projections.apply(Recorded(event, self._count, data=event.SerializeToString()))

    def begin(self, run_id: str, dtype: str = "uint8", shape: tuple[int, ...] = SHAPE, **started: Any) -> None:
        self.write(run_id, run_started=RunStarted(**started))
        pool = PoolPublished(sample_count=99, classes=["x", "y", "z"], shape=shape, dtype=dtype)
        self.write(run_id, pool_published=pool)

    def train(self, run_id: str, number: int, model: bytes) -> str:
        """Write a round whose model is ``model``, which answers at once; return its digest."""
        digest = digest_of(model)
        self.models[digest] = model
        self.write(run_id, number - 1, labels_requested=LabelsRequested(sample_ids=[number], score=[0.0]))
        self.write(run_id, number - 1, label_provided={"sample_id": number, "label": 0})
        self.write(run_id, number, model_trained=ModelTrained(model_sha256=digest, labels=number))
        self.newest.projections.get(run_id).served = digest
        return digest

    async def load(self, digest: str) -> Model:
        if digest not in self.models:
            raise NotFound("UNKNOWN_ARTIFACT", f"there is no artifact {digest}")
        return Model(self.models[digest], digest)


@dataclass
class Scorer:
    """A served scorer."""

    server: Server
    rest: RestServer
    scoring: Scoring

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rest.port}"

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=60)


@asynccontextmanager
async def served(runs: Runs, **settings: Any) -> AsyncIterator[Scorer]:
    """Serve ``runs`` by gRPC and HTTP on free ports."""
    given = ScorerSettings(port=0, rest_port=0, **settings)
    server = Server(given, "test", bounds=CALL_BOUNDS)
    with ThreadPoolExecutor(1) as posted, ThreadPoolExecutor(1) as converting:
        scoring = Scoring(posted)
        models = cast(AsyncCache[str, Model], AsyncCache(runs.load, kept=9))
        inference = Inference(ModelNames(runs.newest), models, scoring, converting)
        service = InferenceService(inference)
        quick = server.with_shortcuts({"ModelInfer": service.infer_at_once})
        add_GRPCInferenceServiceServicer_to_server(service, quick)
        rest = RestServer(inference, given)
        try:
            await server.start()
            await rest.start()
            await server.ready()
            yield Scorer(server, rest, scoring)
        finally:
            await rest.stop()
            await server.stop()


def answer_of(model: bytes, images: NDArray[Any]) -> NDArray[np.float32]:
    """Return the model's probabilities ``[n, classes]`` of images ``[n, 6, 6]``."""
    return Model(model, "m").classify(images.reshape(len(images), -1))
