"""Bytes of a response are those that protobuf's own class writes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from labelloop.scorer.v1 import scorer_pb2 as pb

from scorer_svc.scoring.answer_bytes import answer_bytes, packed

DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64) | st.text(max_size=300).filter(bool)
ANSWERS = st.lists(
    st.tuples(st.integers(0, 127) | st.integers(0, 2**32 - 1), st.floats(0, 1, width=32)), min_size=1, max_size=200
)


@given(DIGESTS, ANSWERS)
def test_bytes_are_those_of_the_generated_class(digest: str, answers: list[tuple[int, float]]) -> None:
    predicted, confidence = map(list, zip(*answers, strict=True))
    message = pb.ScoreResponse(model_sha256=digest, predicted=predicted, confidence=confidence)
    assert answer_bytes(digest, *packed(predicted, confidence)) == message.SerializeToString(deterministic=True)


@given(st.lists(st.tuples(st.integers(0, 127), st.floats(0, 1, width=32)), min_size=1, max_size=16))
def test_bytes_of_the_kernel_are_taken_as_they_are(answers: list[tuple[int, float]]) -> None:
    predicted, confidence = map(list, zip(*answers, strict=True))
    found = bytes(predicted), np.array(confidence, "<f4").tobytes()
    assert found == packed(predicted, confidence)
    message = pb.ScoreResponse.FromString(answer_bytes("a" * 64, *found))
    assert (list(message.predicted), list(message.confidence)) == (predicted, confidence)
