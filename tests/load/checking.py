"""Check answers under load, by ONNX Runtime itself if the models are at hand. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnxruntime
from google.protobuf.message import DecodeError
from labelloop.inference.v2 import inference_pb2
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop_cli.load.agreement import disagreement
from labelloop_cli.load.calls import Calls
from numpy.typing import NDArray

from tests.load.inference_calls import INFER


class Reference:
    """Class probabilities of ``images`` ``[n, features]``: those of ``models``, and ``known`` ones ``[n, classes]`` of
    models that are not at hand; both by digest."""

    def __init__(
        self,
        images: NDArray[np.generic],
        models: Mapping[str, bytes],
        known: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self._images, self._models = images, models
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._probabilities = dict(known or {})

    def wrong(self, calls: Calls, answers: Counter[tuple[int, bytes]]) -> Counter[str]:
        """Count the answers that have each fault."""
        faults: Counter[str] = Counter()
        for (index, data), count in answers.items():
            try:
                fault = self._fault(calls, index, data)
            except DecodeError:
                fault = "bytes that are no answer"
            if fault:
                faults[fault] += count
        return faults

    def _fault(self, calls: Calls, index: int, data: bytes) -> str:
        if calls.method == INFER:
            return self._infer_fault(calls, index, inference_pb2.ModelInferResponse.FromString(data))
        if calls.method == "RankPool":
            return self._rank_fault(calls, pb.RankPoolResponse.FromString(data))
        if calls.is_stream:
            return self._score_fault(calls, index, pb.ScoreStreamResponse.FromString(data).score)
        return self._score_fault(calls, index, pb.ScoreResponse.FromString(data))

    def _score_fault(self, calls: Calls, index: int, answer: pb.ScoreResponse) -> str:
        if answer.model_sha256 not in {*self._models, *self._probabilities}:
            return "a model that is none of the run's"
        if calls.model and answer.model_sha256 != calls.model:
            return "another model than was asked for"
        if len(answer.predicted) != calls.images or len(answer.confidence) != calls.images:
            return "another number of images"
        rows = np.arange(calls.first[index], calls.first[index] + calls.images) % len(self._images)
        return disagreement(self._of_known(answer.model_sha256)[rows], answer.predicted, answer.confidence)

    def _infer_fault(self, calls: Calls, index: int, answer: inference_pb2.ModelInferResponse) -> str:
        if [each.name for each in answer.outputs] != ["predicted", "confidence"] or len(
            answer.raw_output_contents
        ) != 2:
            return "other outputs than were asked for"
        predicted, confidence = (
            np.frombuffer(data, dtype).tolist()
            for data, dtype in zip(answer.raw_output_contents, ("<i8", "<f4"), strict=True)
        )
        digest = answer.parameters["model_sha256"].string_param
        scored = pb.ScoreResponse(model_sha256=digest, predicted=predicted, confidence=confidence)
        return self._score_fault(calls, index, scored)

    def _rank_fault(self, calls: Calls, answer: pb.RankPoolResponse) -> str:
        if tuple(answer.sample_ids) != calls.ranked:
            return "another ranking than before the load"
        if any(len(each) != len(calls.ranked) for each in (answer.predicted, answer.confidence, answer.score)):
            return "another number of samples"
        rows = _samples(answer.samples, len(calls.ranked))
        if rows is None:
            return "samples that are none of the pool's"
        return disagreement(self._run(calls.model, rows), answer.predicted, answer.confidence)

    def _of_known(self, model: str) -> NDArray[np.float32]:
        if model not in self._probabilities:
            self._probabilities[model] = self._run(model, self._images)
        return self._probabilities[model]

    def _run(self, model: str, rows: NDArray[np.generic]) -> NDArray[np.float32]:
        if model not in self._sessions:
            providers = ["CPUExecutionProvider"]
            self._sessions[model] = onnxruntime.InferenceSession(self._models[model], providers=providers)
        session = self._sessions[model]
        answer: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: rows})[0]
        return answer


def _samples(answer: pb.GetSamplesResponse, count: int) -> NDArray[np.generic] | None:
    """Samples ``[count, features]``; None if they are not that."""
    try:
        dtype = np.dtype(answer.dtype).newbyteorder("<")
        return np.frombuffer(answer.samples, dtype).reshape(count, *answer.shape).reshape(count, -1)
    except (TypeError, ValueError):
        return None
