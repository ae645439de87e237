"""``labelloop load`` against a real gRPC server that scores, and sometimes lies."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from labelloop.errors import InvalidInput, Unready, WrongState
from labelloop.rpc.call_metrics import CallCounts
from labelloop.rpc.handlers import guarded
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceServicer, add_ScorerServiceServicer_to_server
from labelloop.trainer.v1 import trainer_pb2
from labelloop.trainer.v1.trainer_pb2_grpc import TrainerServiceServicer, add_TrainerServiceServicer_to_server
from labelloop_cli.load.agreement import wrong_scores
from labelloop_cli.load.calls import score_calls
from labelloop_cli.load.closed_loop import closed_loop
from labelloop_cli.operations.load import Plan, put_under_load
from numpy.typing import NDArray

MODEL, PIXELS = "a" * 64, 6
BRIEF = Plan(run_id="", seconds=0.3, users=4, images=5, share=0.5)


def probabilities(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of three classes, ``[n, 3]``."""
    shares = images.reshape(-1, PIXELS).astype(np.float32)[:, :3] + 1
    return np.asarray(shares / shares.sum(1, keepdims=True), np.float32)


class Scorer(ScorerServiceServicer):
    def __init__(self) -> None:
        self.calls, self.lies_from, self.away_from = 0, 10**9, 10**9

    async def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse:  # noqa: N802
        assert request.model_sha256 == MODEL
        if not request.images:
            raise InvalidInput("BAD_IMAGES", "no image", image_size=PIXELS)
        self.calls += 1
        if self.calls > self.away_from:
            raise Unready("AWAY", "not now")
        right = probabilities(np.frombuffer(request.images, np.uint8))
        predicted = right.argmax(1)
        if self.calls > self.lies_from:
            predicted = right.argmin(1)
        return pb.ScoreResponse(
            model_sha256=MODEL,
            predicted=predicted.tolist(),
            confidence=right.max(1).tolist(),
            probabilities=right.ravel().tolist() if request.with_probabilities else (),
        )


class Trainer(TrainerServiceServicer):
    def __init__(self) -> None:
        self.runs = [trainer_pb2.RunStatus(run_id="old"), trainer_pb2.RunStatus(run_id="new")]
        self.runs[0].latest.model_sha256 = MODEL

    async def ListRuns(self, request: Any, context: Any) -> trainer_pb2.ListRunsResponse:  # noqa: N802
        return trainer_pb2.ListRunsResponse(runs=self.runs)

    async def GetRun(self, request: Any, context: Any) -> trainer_pb2.GetRunResponse:  # noqa: N802
        return trainer_pb2.GetRunResponse(run=next(run for run in self.runs if run.run_id == request.run_id))


@pytest.fixture
async def scorer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scorer]:
    server, scorer = grpc.aio.server(), Scorer()  # type: ignore[abstract]
    registrar = guarded(server, CallCounts())
    add_ScorerServiceServicer_to_server(scorer, registrar)
    add_TrainerServiceServicer_to_server(Trainer(), registrar)  # type: ignore[abstract]
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    for name in ("LABELLOOP_TRAINER", "LABELLOOP_SCORER"):
        monkeypatch.setenv(name, address)
    await server.start()
    yield scorer
    await server.stop(None)


async def test_both_loops_are_measured_and_every_call_is_counted(
    scorer: Scorer, capsys: pytest.CaptureFixture[str]
) -> None:
    await put_under_load(BRIEF, as_json=True)
    document = json.loads(capsys.readouterr().out)
    closed, opened = document["loops"]
    assert (document["run"], closed["loop"], opened["loop"]) == ("old", "closed", "open")
    assert opened["asked_rate_s"] == pytest.approx(max(1, closed["rate_s"] / 2))
    assert closed["images_s"] == pytest.approx(5 * closed["rate_s"])
    assert closed["calls"] + opened["calls"] == scorer.calls - 1, "one call asked for the right answers"
    assert closed["statuses"] == {"OK": closed["calls"]}


async def test_wrong_answers_fail_the_command(scorer: Scorer, capsys: pytest.CaptureFixture[str]) -> None:
    scorer.lies_from = 3
    with pytest.raises(WrongState, match="answers were wrong"):
        await put_under_load(BRIEF, as_json=False)
    assert "WRONG: {'another class'" in capsys.readouterr().out


async def test_a_load_without_any_answer_fails(scorer: Scorer, capsys: pytest.CaptureFixture[str]) -> None:
    scorer.away_from = 1
    with pytest.raises(WrongState, match="a loop got no answer"):
        await put_under_load(BRIEF, as_json=False)
    assert "UNAVAILABLE" in capsys.readouterr().out


async def test_a_run_without_a_model_cannot_be_scored_with(scorer: Scorer) -> None:
    with pytest.raises(WrongState, match="run new has no model yet"):
        await put_under_load(Plan("new", 0.1, 1, 1, 0.5), as_json=False)


async def test_users_of_a_closed_loop_wait_for_their_answers() -> None:
    waiting, most = 0, 0

    async def send(index: int) -> tuple[str, bytes]:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await asyncio.sleep(0)
        waiting -= 1
        return "OK", bytes([index])

    outcomes = await closed_loop(send, 3, users=2, seconds=0.01)
    assert most == 2
    assert {index for index, _ in outcomes.answers} <= {0, 1, 2}
    assert len(outcomes.status) == sum(outcomes.answers.values()) > 0


def test_each_fault_of_an_answer_is_counted() -> None:
    images = np.arange(4 * PIXELS, dtype=np.uint8).reshape(4, PIXELS)
    calls, right = score_calls(images, 2, model=MODEL), probabilities(images)
    wrapped = right[[3, 0]]  # of request 3
    good = pb.ScoreResponse(model_sha256=MODEL, predicted=wrapped.argmax(1), confidence=wrapped.max(1))
    other, short = pb.ScoreResponse(), pb.ScoreResponse()
    other.CopyFrom(good)
    other.model_sha256 = "b" * 64
    short.CopyFrom(good)
    del short.predicted[1:]
    told = Counter({(3, answer.SerializeToString()): count for answer, count in ((good, 7), (other, 2), (short, 3))})
    told[3, b"\xff"] = 4
    assert wrong_scores(calls, told, right) == {
        "another model than was asked for": 2,
        "another number of images": 3,
        "bytes that are no answer": 4,
    }
