"""Reading of posted images, and answers made of probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from labelloop.errors import InvalidInput
from labelloop.scorer.v1 import scorer_pb2 as pb
from numpy.typing import NDArray

from scorer_svc.scoring.images import answer, read_images
from scorer_svc.scoring.texts import read_texts, work_of

FEATURES = 6


@dataclass
class Fitted:
    """A model of ``dtype`` samples that is not to classify."""

    dtype: str = "uint8"
    class_count: int = 10
    feature_count: int = FEATURES
    takes_missing: bool = False
    work: int = FEATURES

    def is_open_for(self, dtype: str) -> bool:
        raise AssertionError("nobody asks")

    def classify(self, images: NDArray[Any]) -> NDArray[np.float32]:
        raise AssertionError("nobody asks")


def request(dtype: str, images: bytes, **changes: Any) -> pb.ScoreRequest:
    return pb.ScoreRequest(dtype=dtype, images=images, **changes)


def refusal(posted: pb.ScoreRequest, model: Fitted) -> tuple[str, str]:
    with pytest.raises(InvalidInput) as caught:
        read_images(posted, model)
    return caught.value.reason, caught.value.field


@given(stn.arrays(np.uint8, st.tuples(st.integers(1, 9), st.just(FEATURES))))
def test_images_are_read_as_they_were_posted(images: NDArray[np.uint8]) -> None:
    assert np.array_equal(read_images(request("uint8", images.tobytes()), Fitted()), images)
    for fitted in (Fitted(), Fitted("float32")):
        floats = read_images(request("float32", images.astype(">f4").byteswap().tobytes()), fitted)
        assert floats.dtype == np.float32
        assert np.array_equal(floats, images)


@pytest.mark.parametrize("dtype", ["", "int8", "UINT8", "<f4", "float64"])
def test_unknown_dtypes_are_refused(dtype: str) -> None:
    assert refusal(request(dtype, bytes(FEATURES)), Fitted()) == ("BAD_DTYPE", "dtype")


def test_a_model_of_floats_refuses_uint8_images() -> None:
    assert refusal(request("uint8", bytes(FEATURES)), Fitted("float32")) == ("WRONG_DTYPE", "dtype")


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("uint8", 0), ("uint8", 1), ("uint8", FEATURES + 1), ("float32", 0), ("float32", FEATURES), ("float32", 25)],
)
def test_bytes_that_are_not_whole_images_are_refused(dtype: str, size: int) -> None:
    assert refusal(request(dtype, bytes(size)), Fitted()) == ("BAD_IMAGES", "images")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_floats_are_refused(value: float) -> None:
    images = np.zeros((3, FEATURES), np.float32)
    images[2, 5] = value
    assert refusal(request("float32", images.tobytes()), Fitted()) == ("NOT_FINITE", "images")


def test_rows_of_a_table_may_lack_values_but_hold_no_infinity() -> None:
    rows = np.zeros((3, FEATURES), np.float32)
    rows[2, 5] = np.nan
    model = Fitted(dtype="float32", takes_missing=True)
    assert np.isnan(read_images(request("float32", rows.tobytes()), model)[2, 5])
    rows[0, 0] = np.inf
    assert refusal(request("float32", rows.tobytes()), model) == ("NOT_FINITE", "images")


@pytest.mark.parametrize(
    ("most", "classes", "with_probabilities"), [(65_536, 10, False), (52_428, 10, True), (65_536, 2, True)]
)
def test_more_images_than_an_answer_may_hold_are_refused(most: int, classes: int, with_probabilities: bool) -> None:
    model, wanted = Fitted(class_count=classes), {"with_probabilities": with_probabilities}
    assert len(read_images(request("uint8", bytes(most * FEATURES), **wanted), model)) == most
    over = request("uint8", bytes((most + 1) * FEATURES), **wanted)
    assert refusal(over, model) == ("TOO_MANY_IMAGES", "images")


probabilities = stn.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 12)), elements=st.floats(0, 1, width=32)
)


@given(probabilities, st.booleans())
def test_an_answer_has_the_first_most_probable_class_of_each_image(
    given_: NDArray[np.float32], with_probabilities: bool
) -> None:
    response = answer("m", given_, with_probabilities)
    assert response.model_sha256 == "m"
    assert list(response.predicted) == given_.argmax(axis=1).tolist()
    assert list(response.confidence) == given_.max(axis=1).tolist()
    assert list(response.probabilities) == (given_.ravel().tolist() if with_probabilities else [])


@given(probabilities, st.data())
def test_nan_probabilities_are_refused(given_: NDArray[np.float32], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, given_.size - 1))
    given_.flat[place] = np.nan
    with pytest.raises(InvalidInput) as caught:
        answer("m", given_, False)
    assert (caught.value.reason, caught.value.field) == ("NO_ANSWER", "images")


def test_texts_are_read_as_they_were_posted() -> None:
    texts = read_texts(pb.ScoreRequest(texts=["", "a\0b", "אב 😀"]))
    assert texts.tolist() == ["", "a\0b", "אב 😀"]
    assert work_of(texts, 1_000) == 3_000 + 1_600 * 7


@pytest.mark.parametrize(
    ("posted", "reason"),
    [
        (pb.ScoreRequest(), "BAD_TEXTS"),
        (pb.ScoreRequest(texts=["a"] * 4_097), "BAD_TEXTS"),
        (pb.ScoreRequest(texts=["a", "b" * 100_001]), "TEXT_TOO_LONG"),
        (pb.ScoreRequest(dtype="uint8", images=b"x"), "WRONG_DTYPE"),
    ],
)
def test_what_is_no_text_is_refused(posted: pb.ScoreRequest, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_texts(posted)
    assert caught.value.reason == reason


def test_a_model_of_images_refuses_texts() -> None:
    assert refusal(pb.ScoreRequest(dtype="uint8", texts=["a"]), Fitted()) == ("WRONG_DTYPE", "texts")
