"""The check of answers under load: it finds wrong ones and passes correct ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnxruntime
import pytest
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop_cli.load.calls import RANK_LIMIT, Calls, rank_calls, rank_request, score_calls

from tests.load.checking import Reference
from trainer_svc.model.onnx_export import to_onnx

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (8, 6)).astype(np.uint8)
MODELS = {name: to_onnx(RANDOM.normal(0, 2, (3, 7)).astype(np.float32), "uint8") for name in ("a" * 64, "b" * 64)}
A, B = MODELS
REFERENCE = Reference(IMAGES, MODELS)


def honest(calls: Calls, index: int, model: str) -> pb.ScoreResponse:
    rows = np.take(IMAGES, range(index, index + calls.images), axis=0, mode="wrap")
    [probabilities] = onnxruntime.InferenceSession(MODELS[model]).run(None, {"samples": rows})
    predicted, confidence = probabilities.argmax(1).tolist(), probabilities.max(1).tolist()
    return pb.ScoreResponse(model_sha256=model, predicted=predicted, confidence=confidence)


def fault(calls: Calls, index: int, answer: pb.ScoreResponse | pb.RankPoolResponse) -> str:
    sent = pb.ScoreStreamResponse(score=answer) if isinstance(answer, pb.ScoreResponse) and calls.is_stream else answer
    found = REFERENCE.wrong(calls, Counter({(index, sent.SerializeToString()): 3}))
    assert set(found.values()) <= {3}
    return next(iter(found), "")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("images", [1, 5, 20])
def test_correct_answers_of_any_model_of_the_run_pass(images: int, stream: bool) -> None:
    """When the newest model of a run is requested."""
    calls = score_calls(IMAGES, images, run_id="r", stream=stream)
    assert all(fault(calls, index, honest(calls, index, model)) == "" for index in range(8) for model in (A, B))


def test_wrong_answers_are_found() -> None:
    calls = score_calls(IMAGES, 5, model=A)
    lies = {
        "another class": honest(calls, 2, A),
        "another confidence": honest(calls, 2, A),
        "another number of images": honest(calls, 2, A),
        "a model that is none of the run's": honest(calls, 2, A),
        "a class that there is not": honest(calls, 2, A),
    }
    lies["another class"].predicted[3] = (lies["another class"].predicted[3] + 1) % 3
    lies["another confidence"].confidence[0] -= 0.01
    lies["another number of images"].predicted.append(0)
    lies["a model that is none of the run's"].model_sha256 = "c" * 64
    lies["a class that there is not"].predicted[0] = 3
    assert {name: fault(calls, 2, answer) for name, answer in lies.items()} == {name: name for name in lies}


def test_an_answer_of_another_model_than_the_requested_one_is_found() -> None:
    calls = score_calls(IMAGES, 5, model=A)
    assert fault(calls, 2, honest(calls, 2, A)) == ""
    assert fault(calls, 2, honest(calls, 2, B)) == "another model than was asked for"


def test_undecodable_answers_are_found() -> None:
    assert REFERENCE.wrong(score_calls(IMAGES, 1, model=A), Counter({(0, b"\xff"): 2})).total() == 2


def test_without_models_answers_are_checked_by_known_probabilities() -> None:
    calls = score_calls(IMAGES, 5, model=A)
    [probabilities] = onnxruntime.InferenceSession(MODELS[A]).run(None, {"samples": IMAGES})
    said = Reference(IMAGES, {}, {A: probabilities})
    right, wrong = honest(calls, 2, A), honest(calls, 2, A)
    wrong.predicted[0] = (wrong.predicted[0] + 1) % 3
    answers = Counter({(2, answer.SerializeToString()): 1 for answer in (right, wrong, honest(calls, 2, B))})
    assert said.wrong(calls, answers) == {"another class": 1, "a model that is none of the run's": 1}


def test_an_answer_that_mixes_two_models_is_found() -> None:
    calls = score_calls(IMAGES, 8, run_id="r")
    mixed, other = honest(calls, 0, A), honest(calls, 0, B)
    mixed.confidence[4:], mixed.predicted[4:] = other.confidence[4:], other.predicted[4:]
    assert fault(calls, 0, mixed)


def test_rankings_are_checked_by_the_samples_in_the_answer() -> None:
    calls = rank_calls(rank_request("p" * 64, A), range(RANK_LIMIT))
    rows = RANDOM.integers(0, 256, (10, 6)).astype(np.uint8)
    [probabilities] = onnxruntime.InferenceSession(MODELS[A]).run(None, {"samples": rows})
    order = probabilities.max(1).argsort()
    confidence = probabilities.max(1)[order].tolist()
    answer = pb.RankPoolResponse(
        sample_ids=range(10),
        predicted=probabilities.argmax(1)[order].tolist(),
        confidence=confidence,
        score=confidence,
        samples=pb.GetSamplesResponse(dtype="uint8", shape=[6], samples=rows[order].tobytes()),
    )
    assert fault(calls, 0, answer) == ""
    answer.sample_ids[0] = 9
    assert fault(calls, 0, answer) == "another ranking than before the load"
    answer.sample_ids[0] = 0
    answer.predicted[0] = (answer.predicted[0] + 1) % 3
    assert fault(calls, 0, answer) == "another class"
    del answer.predicted[0]
    assert fault(calls, 0, answer) == "another number of samples"
    answer.samples.samples = b"x"
    answer.predicted.insert(0, 0)
    assert fault(calls, 0, answer) == "samples that are none of the pool's"
