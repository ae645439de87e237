"""Score: images classified by a given model, or by the newest model of a run."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import onnxruntime
import pytest
from labelloop.errors import LimitExceeded, NotFound, from_rpc
from labelloop.events.v1.events_pb2 import LabelSource
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop.trainer.v1.trainer_pb2 import GetModelRequest, GetModelResponse
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.stack import Stack
from numpy.typing import NDArray

from tests.blobs import IMAGE_BYTES, Blobs, spec
from tests.e2e.driving import finish, reach_round, start
from tests.e2e.stopping import until

_SIZES = [1, 2, 64, 300]  # the last one is scored in a thread

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def clients(shared_clients: Clients) -> Clients:
    return shared_clients


def own_answer(model: bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return probabilities ``[n, classes]`` from ONNX Runtime."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images})[0]
    return answer


def check(response: pb.ScoreResponse, digest: str, expected: NDArray[np.float32]) -> None:
    assert response.model_sha256 == digest
    assert list(response.predicted) == expected.argmax(axis=1).tolist()
    assert list(response.confidence) == expected.max(axis=1).tolist()


async def trained(clients: Clients, run_id: str, blobs: Blobs) -> GetModelResponse:
    """Run to the end and return the newest model."""
    await start(clients, run_id, spec(blobs, label_budget=10, auto_label_budget=0))
    end = (await finish(clients, run_id)).run
    return await clients.trainer.GetModel(GetModelRequest(run_id=run_id, round=end.round))


async def test_scores_equal_those_of_onnx_runtime(clients: Clients, run_id: str, blobs: Blobs) -> None:
    model, images = await trained(clients, run_id, blobs), np.load(blobs.samples).reshape(-1, IMAGE_BYTES)
    for count in _SIZES:
        expected, data = own_answer(model.model, images[:count]), images[:count].tobytes()
        for name in ({"model_sha256": model.model_sha256}, {"run_id": run_id}):
            request = pb.ScoreRequest(dtype="uint8", images=data, with_probabilities=True, **name)
            response = await clients.scorer.Score(request)
            check(response, model.model_sha256, expected)
            assert list(response.probabilities) == expected.ravel().tolist()


async def test_float_images_use_the_scale_of_pixels(clients: Clients, run_id: str, blobs: Blobs) -> None:
    model, images = await trained(clients, run_id, blobs), np.load(blobs.samples).reshape(-1, IMAGE_BYTES)[:7]
    data = images.astype("<f4").tobytes()
    response = await clients.scorer.Score(pb.ScoreRequest(run_id=run_id, dtype="float32", images=data))
    check(response, model.model_sha256, own_answer(model.model, images))
    assert not response.probabilities


async def test_a_stream_answers_in_order_and_ends_at_the_first_bad_request(
    clients: Clients, run_id: str, blobs: Blobs
) -> None:
    model, images = await trained(clients, run_id, blobs), np.load(blobs.samples).reshape(-1, IMAGE_BYTES)
    expected = own_answer(model.model, images)
    spans = [(0, 1), (1, 65), (65, 300)]
    good = [pb.ScoreRequest(run_id=run_id, dtype="uint8", images=images[a:b].tobytes()) for a, b in spans]
    bad = pb.ScoreRequest(run_id=run_id, dtype="uint8", images=b"x")
    # Nothing is sent after the bad request: a failed send would hide the status with which the server ended the call.
    stream = clients.scorer.ScoreStream()
    for each in (*good, bad):
        await stream.write(pb.ScoreStreamRequest(score=each))
    for a, b in spans:
        answer = await stream.read()
        assert isinstance(answer, pb.ScoreStreamResponse)
        check(answer.score, model.model_sha256, expected[a:b])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    ours = from_rpc(caught.value)
    assert ours is not None
    assert (ours.reason, ours.field) == ("BAD_IMAGES", "images")


async def refusal(clients: Clients, request: pb.ScoreRequest) -> str:
    """Return the reason of the NotFound that the request gets."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await clients.scorer.Score(request)
    ours = from_rpc(caught.value)
    assert isinstance(ours, NotFound)
    return ours.reason


async def test_unknown_models_and_runs_are_not_found(clients: Clients) -> None:
    assert await refusal(clients, pb.ScoreRequest(run_id="nobody")) == "UNKNOWN_RUN"
    assert await refusal(clients, pb.ScoreRequest(model_sha256="0" * 64)) == "UNKNOWN_ARTIFACT"


async def test_a_run_without_a_model_differs_from_an_unknown_one(clients: Clients, run_id: str, blobs: Blobs) -> None:
    await start(clients, run_id, spec(blobs, label_source=LabelSource.LABEL_SOURCE_QUEUE, auto_label_budget=0))
    request, seen = pb.ScoreRequest(run_id=run_id), set[str]()

    async def scorer_knows_it() -> bool:
        seen.add(await refusal(clients, request))
        return seen != {"UNKNOWN_RUN"}

    await until(scorer_knows_it)  # it may read the log later than the trainer
    assert seen - {"UNKNOWN_RUN"} == {"NO_MODEL_YET"}


async def test_each_answer_is_of_one_model_while_models_change(clients: Clients, run_id: str, blobs: Blobs) -> None:
    """Many clients score with a run's newest model while it advances; no call fails."""
    images = np.load(blobs.samples).reshape(-1, IMAGE_BYTES)[:20]
    request = pb.ScoreRequest(run_id=run_id, dtype="uint8", images=images.tobytes(), with_probabilities=True)
    await start(clients, run_id, spec(blobs))
    await reach_round(clients, run_id, 1)
    over, answers = asyncio.Event(), dict[str, set[bytes]]()

    async def keep_asking() -> None:
        while not over.is_set():
            answer = await clients.scorer.Score(request, wait_for_ready=True)
            answers.setdefault(answer.model_sha256, set()).add(answer.SerializeToString(deterministic=True))

    asking = [asyncio.create_task(keep_asking()) for _ in range(32)]
    end = (await finish(clients, run_id)).run
    over.set()
    await asyncio.gather(*asking)
    fetched = [
        await clients.trainer.GetModel(GetModelRequest(run_id=run_id, round=number))
        for number in range(1, end.round + 1)
    ]
    models = {model.model_sha256: model.model for model in fetched}
    assert len(answers) > 1
    for digest, told in answers.items():
        [only] = told
        response, expected = pb.ScoreResponse.FromString(only), own_answer(models[digest], images)
        check(response, digest, expected)
        assert list(response.probabilities) == expected.ravel().tolist()


async def test_overload_is_refused_and_the_server_recovers(
    clients: Clients, shared_stack: Stack, run_id: str, blobs: Blobs
) -> None:
    model, images = await trained(clients, run_id, blobs), np.load(blobs.samples).reshape(-1, IMAGE_BYTES)
    many = np.resize(images, (65_536, IMAGE_BYTES))
    request = pb.ScoreRequest(run_id=run_id, dtype="uint8", images=many.tobytes(), with_probabilities=True)
    async with connect(shared_stack.endpoints.model_copy(update={"retry_s": 0.0})) as impatient:
        calls = [impatient.scorer.Score(request) for _ in range(100)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    answers = [outcome for outcome in outcomes if isinstance(outcome, pb.ScoreResponse)]
    refusals = [from_rpc(outcome) for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert len(answers) + len(refusals) == len(outcomes)
    assert answers
    assert {type(refusal) for refusal in refusals} == {LimitExceeded}
    for refusal in refusals:
        assert refusal is not None
        assert refusal.reason == "OVERLOADED"
        assert refusal.retry_after_s > 0
    expected = own_answer(model.model, many)
    for answer in (*answers, await clients.scorer.Score(request)):
        check(answer, model.model_sha256, expected)
