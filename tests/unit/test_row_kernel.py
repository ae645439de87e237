"""The row kernel answers as ONNX Runtime does, bit for bit, or leaves the answer to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from structlog.testing import capture_logs

from scorer_svc.models.model import Model
from scorer_svc.prefilter.integer_kernel import Unavailable
from scorer_svc.prefilter.kernel_choice import PrefilterFactory
from scorer_svc.prefilter.linear_head import LinearSoftmax, linear_softmax
from scorer_svc.row_kernel.kernel import SAMPLES_MAX, RowKernel, agrees, machine_code, row_kernel
from trainer_svc.model.onnx_export import to_onnx

pytest.importorskip("llvmlite", reason="the extra llvm is not installed")

# Around the lengths of blocks of features and of groups of classes.
SIZES = [(1, 2), (2, 3), (255, 15), (256, 16), (257, 17), (784, 10), (1_024, 4), (1_025, 33), (3_072, 64)]


def model_of(features: int, classes: int, dtype: str = "uint8", spread: float = 0.3) -> Model:
    chance = np.random.default_rng(features * classes)
    weights = chance.normal(0, spread, (classes, features + 1)).astype(np.float32)
    return Model(to_onnx(weights, dtype), "0" * 64)


def kernel_of(model: Model) -> RowKernel:
    kernel = row_kernel(linear_softmax(model.data), model.classify)
    assert kernel is not None
    return kernel


def expected(model: Model, samples: NDArray[Any]) -> tuple[bytes, bytes]:
    probabilities = np.concatenate([model.classify(samples[place : place + 1]) for place in range(len(samples))])
    return probabilities.argmax(axis=1).astype(np.uint8).tobytes(), probabilities.max(axis=1).tobytes()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("features", "classes"), SIZES)
def test_answers_are_those_of_onnx_runtime_bit_for_bit(features: int, classes: int, dtype: str) -> None:
    model = model_of(features, classes, dtype)
    kernel = kernel_of(model)
    chance = np.random.default_rng(1)
    samples = chance.integers(0, 256, (40, features)).astype(dtype)
    if dtype == "float32":
        samples *= chance.normal(0, 0.003, samples.shape).astype(np.float32)
    for first in range(0, len(samples), 8):
        part = samples[first : first + 8]
        assert kernel.classify(part.tobytes()) == expected(model, part)


MODEL = model_of(20, 5, spread=12.0)
KERNEL = kernel_of(MODEL)


@given(st.lists(st.binary(min_size=20, max_size=20), min_size=1, max_size=SAMPLES_MAX))
def test_an_answer_is_that_of_onnx_runtime_or_left_to_it(rows: list[bytes]) -> None:
    samples = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 20)
    assert KERNEL.classify(samples.tobytes()) in (None, expected(MODEL, samples))


def test_the_first_of_equally_probable_classes_is_the_answer() -> None:
    model = Model(to_onnx(np.ones((40, 3), np.float32), "uint8"), "0" * 64)
    found = row_kernel(linear_softmax(model.data), model.classify)
    assert found is not None
    assert found.classify(bytes([1, 2])) == expected(model, np.array([[1, 2]], np.uint8))


def test_logits_that_are_far_apart_are_left_to_onnx_runtime() -> None:
    linear = LinearSoftmax(np.array([[1.0, 0.0]], np.float32), np.zeros(2, np.float32), "uint8")
    kernel = RowKernel(linear, machine_code(1, 2, "uint8"))
    assert kernel.classify(bytes([87])) is not None
    assert kernel.classify(bytes([88])) is None
    assert kernel.classify(bytes([1, 88])) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_values_that_give_no_finite_logits_are_left_to_onnx_runtime(value: float) -> None:
    kernel = kernel_of(model_of(6, 3, "float32", spread=2.0))
    sample = np.zeros(6, np.float32)
    assert kernel.classify(sample.tobytes()) is not None
    sample[3] = value
    assert kernel.classify(sample.tobytes()) is None


@pytest.mark.parametrize("size", [0, 1, 783, 785, 784 * (SAMPLES_MAX + 1)])
def test_what_is_no_small_number_of_samples_is_left_to_the_caller(size: int) -> None:
    assert kernel_of(model_of(784, 10)).classify(bytes(size)) is None


@pytest.mark.parametrize("off", [1, -1])
def test_code_whose_answers_differ_in_the_last_bit_of_one_sample_is_not_used(off: int) -> None:
    model = model_of(12, 3)
    linear = linear_softmax(model.data)
    assert linear is not None
    exact, asked = machine_code(12, 3, "uint8"), 0

    def reference(samples: NDArray[Any]) -> NDArray[np.float32]:
        nonlocal asked
        asked += len(samples)
        answers = model.classify(samples)
        if asked > 300:
            answers = (answers.view(np.int32) + off).view(np.float32)
        return answers

    assert agrees(RowKernel(linear, exact), 12, model.classify)
    assert not agrees(RowKernel(linear, exact), 12, reference)
    with pytest.raises(Unavailable, match="another order"):
        row_kernel(linear, reference)


def test_code_that_has_no_answers_is_not_used() -> None:
    linear = linear_softmax(MODEL.data)
    assert linear is not None
    assert not agrees(RowKernel(linear, lambda *_: 0), 20, MODEL.classify)


@pytest.mark.parametrize(
    "linear",
    [
        None,
        LinearSoftmax(np.zeros((4, 65), np.float32), np.zeros(65, np.float32), "uint8"),
        LinearSoftmax(np.zeros((300_000, 2), np.float32), np.zeros(2, np.float32), "uint8"),
        LinearSoftmax(np.full((4, 2), np.nan, np.float32), np.zeros(2, np.float32), "uint8"),
        LinearSoftmax(np.zeros((4, 2), np.float32), np.full(2, np.inf, np.float32), "uint8"),
        LinearSoftmax(np.zeros((4, 2), np.float32), np.zeros(2, np.float32), "float64"),
    ],
)
def test_other_models_have_no_kernel(linear: LinearSoftmax | None) -> None:
    assert row_kernel(linear, MODEL.classify) is None


def test_a_model_makes_its_kernel_once_and_not_without_llvmlite() -> None:
    model = model_of(9, 3)
    assert [model.wants_row_kernel(), model.wants_row_kernel()] == [True, False]
    model.make_row_kernel()
    assert model.row_kernel is not None
    without = Model(model.data, "0" * 64, PrefilterFactory(installed=lambda: False))
    with capture_logs() as lines:
        without.make_row_kernel()
    assert (without.row_kernel, lines) == (None, [])


def test_why_there_is_no_kernel_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise Unavailable("this processor is unknown")

    monkeypatch.setattr("scorer_svc.models.model.row_kernel", none)
    model = model_of(9, 3)
    with capture_logs() as lines:
        model.make_row_kernel()
    assert model.row_kernel is None
    assert [(line["event"], line["why"]) for line in lines] == [("row_kernel_unavailable", "this processor is unknown")]
