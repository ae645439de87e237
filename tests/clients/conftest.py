"""A scorer with a model of images and one of texts, and what they answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import pytest_asyncio
from labelloop.trainer.v1.trainer_pb2 import GetModelRequest
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.stack import running

from tests.blobs import IMAGE_BYTES, spec, write_blobs
from tests.e2e.driving import finish, start
from tests.e2e.test_texts import spec_of
from tests.topics import texts_about

_COUNT = 7


@dataclass(frozen=True)
class Served:
    """A scorer, and a JSON file with its ports, its runs, and a file of samples and the probabilities that they get."""

    grpc: str
    rest: str
    about: Path
    answers: Path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def served(tmp_path_factory: pytest.TempPathFactory, nats_binary: Path) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("clients")
    async with running(folder / "store", rest_port=0) as stack, connect(stack.endpoints) as clients:
        await start(clients, "blobs", spec(write_blobs(folder), label_budget=10, auto_label_budget=0))
        await start(clients, "texts", spec_of(folder))
        images = np.load(folder / "pool.npy")[:_COUNT]
        texts = np.array([text for text, _ in texts_about(_COUNT, 0)], object)
        rounds, digest, pixels = await _answers(clients, "blobs", images.reshape(_COUNT, IMAGE_BYTES))
        _, _, topics = await _answers(clients, "texts", texts)
        answers = folder / "answers.npz"
        np.savez(answers, images=images, texts=texts.astype(str), pixels=pixels, topics=topics)
        scorer = stack.services["scorer"]
        rest = f"127.0.0.1:{scorer.rest_port}"
        about = folder / "about.json"
        told = {"grpc": scorer.address, "rest": rest, "answers": str(answers), "rounds": rounds, "digest": digest}
        about.write_text(json.dumps(told))
        yield Served(scorer.address, rest, about, answers)


async def _answers(clients: Clients, run_id: str, samples: np.ndarray) -> tuple[int, str, np.ndarray]:
    """Wait for the end of a run; return its rounds, its model's digest, and ONNX Runtime's probabilities by it."""
    rounds = (await finish(clients, run_id)).run.round
    model = await clients.trainer.GetModel(GetModelRequest(run_id=run_id, round=rounds))
    session = onnxruntime.InferenceSession(model.model, providers=["CPUExecutionProvider"])
    return rounds, model.model_sha256, session.run(None, {session.get_inputs()[0].name: samples})[0]
