"""Tensors of the Open Inference Protocol: what is read of them, and what is refused."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from labelloop.errors import InvalidInput
from labelloop.inference.v2 import inference_pb2 as pb
from labelloop.scorer.v1.scorer_pb2 import ScoreResponse

from scorer_svc.inference.grpc_messages import inputs_of, outputs_asked, refused, response_bytes, streamed
from scorer_svc.inference.naming import Named
from scorer_svc.inference.outputs import NAMES, outputs_of, raw_outputs
from scorer_svc.inference.tensors import Tensor, sample_count, score_request, texts_of


class Pixels:
    input_name, feature_count, dtype = "samples", 6, "uint8"


class Vectors(Pixels):
    dtype = "float32"


class Texts:
    input_name, feature_count, dtype = "samples", 1, "utf8"


SHAPE = (2, 3)


def refusal(work: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        work(*arguments, **options)
    return caught.value.reason


@pytest.mark.parametrize("shape", [[4, 2, 3], [4, 6]])
def test_samples_are_taken_in_their_shape_or_flat(shape: list[int]) -> None:
    assert sample_count("samples", "UINT8", shape, Pixels(), SHAPE) == 4


HUGE = 2**63 - 1


@pytest.mark.parametrize(
    "shape",
    [
        *([], [6], [2, 3], [4, 3, 2], [4, 2, 3, 1], [0, 6], [-1, 6], [-4, -6], [4, -6], [HUGE, HUGE], [2**32, 2**32]),
        *([1, 6] * 1_000, [4] * 17, [1, 1, 6]),
    ],
)
def test_other_shapes_are_refused_however_large(shape: list[int]) -> None:
    assert refusal(sample_count, "samples", "UINT8", shape, Pixels(), SHAPE) == "WRONG_SHAPE"


def test_a_shape_of_as_many_values_is_refused_if_it_says_another_layout() -> None:
    assert sample_count("samples", "UINT8", [1, 2, 3], Pixels(), SHAPE) == 1
    assert refusal(sample_count, "samples", "UINT8", [1, 3, 2], Pixels(), SHAPE) == "WRONG_SHAPE"


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_texts_are_taken_as_a_row_or_a_column(shape: list[int]) -> None:
    assert sample_count("samples", "BYTES", shape, Texts(), ()) == 3


@pytest.mark.parametrize(
    ("model", "datatype"),
    [(Pixels(), "FP64"), (Pixels(), "BYTES"), (Texts(), "UINT8"), (Pixels(), ""), (Vectors(), "INT64")],
)
def test_other_types_are_refused(model: Any, datatype: str) -> None:
    assert refusal(sample_count, "samples", datatype, [1, 6], model, SHAPE) == "WRONG_DTYPE"


def test_another_name_is_refused() -> None:
    assert refusal(sample_count, "x" * 10_000, "UINT8", [1, 6], Pixels(), SHAPE) == "UNKNOWN_INPUT"


@pytest.mark.parametrize("size", [0, 23, 25, 1_000])
def test_bytes_must_be_as_many_as_the_shape_says(size: int) -> None:
    assert (
        refusal(score_request, Tensor("samples", "UINT8", [4, 6], bytes(size)), with_probabilities=True) == "WRONG_SIZE"
    )
    huge = Tensor("samples", "UINT8", [HUGE, 6], bytes(24))
    assert refusal(score_request, huge, with_probabilities=True) == "WRONG_SIZE"


def raw_texts(*texts: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(each)) + each for each in texts)


def test_texts_are_read_behind_their_lengths() -> None:
    assert texts_of(raw_texts(b"", "ä🦆".encode(), b"a\0b"), 3) == ["", "ä🦆", "a\0b"]


@pytest.mark.parametrize(
    ("raw", "count", "reason"),
    [
        (b"", 1, "WRONG_SIZE"),
        (b"\1\0\0", 1, "WRONG_SIZE"),
        (b"\xff\xff\xff\xffab", 1, "WRONG_SIZE"),
        (raw_texts(b"a"), 2, "WRONG_SIZE"),
        (raw_texts(b"a", b"b"), 1, "WRONG_SIZE"),
        (raw_texts(b"\xff"), 1, "NOT_UTF8"),
        (raw_texts(b"a"), 10**9, "BAD_TEXTS"),
    ],
)
def test_texts_that_are_cut_off_too_many_or_not_utf8_are_refused(raw: bytes, count: int, reason: str) -> None:
    assert refusal(texts_of, raw, count) == reason


def test_a_lone_surrogate_is_refused() -> None:
    assert refusal(score_request, Tensor("samples", "BYTES", [1], ["\ud800"]), with_probabilities=False) == "NOT_UTF8"


def request(*raw: bytes, **contents: Sequence[Any]) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="samples", datatype="UINT8", shape=[1, 6])
    if contents:
        tensor.contents.CopyFrom(pb.InferTensorContents(**contents))
    return pb.ModelInferRequest(model_name="run", inputs=[tensor], raw_input_contents=raw)


def test_elements_are_read_from_bytes_and_from_typed_contents() -> None:
    for asked in (request(bytes(range(6))), request(uint_contents=range(6))):
        [tensor] = inputs_of(asked)
        assert tensor.read(6).values == bytes(range(6))


def test_floats_and_texts_are_read_from_typed_contents() -> None:
    numbers, texts = request(fp32_contents=[0.1, float("nan")]), request(bytes_contents=[b"a", "ä".encode()])
    numbers.inputs[0].datatype, texts.inputs[0].datatype = "FP32", "BYTES"
    assert inputs_of(numbers)[0].read(2).values == np.array([0.1, np.nan], "<f4").tobytes()
    assert inputs_of(texts)[0].read(2).values == ["a", "ä"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request(bytes(6), bytes(6)), "BAD_INPUTS"),
        (request(bytes(6), uint_contents=[1]), "BAD_INPUTS"),
        (request(uint_contents=[256] * 6), "BAD_VALUES"),
        (request(uint_contents=[2**32 - 1] * 6), "BAD_VALUES"),
        (request(uint_contents=[1] * 5), "WRONG_SIZE"),
        (request(uint_contents=[1] * 7), "WRONG_SIZE"),
        (request(), "WRONG_SIZE"),
        (request(int_contents=[1] * 6), "WRONG_CONTENTS"),
        (request(uint_contents=[1] * 6, fp32_contents=[1.0]), "WRONG_CONTENTS"),
    ],
)
def test_elements_that_do_not_fit_are_refused(asked: pb.ModelInferRequest, reason: str) -> None:
    assert refusal(lambda: inputs_of(asked)[0].read(6)) == reason


@pytest.mark.parametrize("where", ["inputs", "outputs", "parameters"])
def test_parameters_that_would_change_what_is_asked_are_refused(where: str) -> None:
    asked = request(bytes(6))
    asked.outputs.add(name="predicted")
    if where == "parameters":
        asked.parameters["sequence_id"].int64_param = 3
    else:
        getattr(asked, where)[0].parameters["shared_memory_region"].string_param = "x"
    assert refusal(lambda: (inputs_of(asked), outputs_asked(asked))) == "UNSUPPORTED_PARAMETER"


def test_hints_are_passed_over() -> None:
    asked = request(bytes(6))
    asked.parameters["priority"].uint64_param = 3
    asked.parameters["sequence_id"].int64_param = 0
    asked.parameters["odd"].SetInParent()
    assert len(inputs_of(asked)) == 1


@pytest.mark.parametrize("names", [["x"], ["predicted", "predicted"], ["predicted"] * 10_000])
def test_outputs_that_are_unknown_or_asked_for_twice_are_refused(names: list[str]) -> None:
    asked = request(bytes(6))
    asked.outputs.extend(pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in names)
    assert refusal(outputs_asked, asked) in {"UNKNOWN_OUTPUT", "DOUBLE_OUTPUT"}


def scored(count: int, classes: int = 3) -> ScoreResponse:
    rows = np.random.default_rng(0).dirichlet(np.ones(classes), count).astype(np.float32)
    return ScoreResponse(predicted=rows.argmax(1), confidence=rows.max(1), probabilities=rows.ravel())


@pytest.mark.parametrize("count", [1, 2, 300])
@pytest.mark.parametrize("names", [NAMES, ("probabilities",), ("confidence", "predicted")])
@pytest.mark.parametrize("id_", ["", "a", "ä" * 200])
def test_an_answer_is_what_protobuf_would_make_of_it(count: int, names: tuple[str, ...], id_: str) -> None:
    response, named = scored(count), Named("run", "3", "d" * 64)
    raw = raw_outputs(response, names)
    assert raw == [each.values.tobytes() for each in outputs_of(response, names)]
    data = response_bytes(named, count, names, raw, id_)
    answer = pb.ModelInferResponse.FromString(data)
    assert (answer.model_name, answer.model_version, answer.id) == ("run", "3", id_)
    assert answer.parameters["model_sha256"].string_param == "d" * 64
    assert [each.name for each in answer.outputs] == list(names)
    assert list(answer.raw_output_contents) == raw
    for output, values in zip(answer.outputs, outputs_of(response, names), strict=True):
        assert tuple(output.shape) == values.values.shape
    again = pb.ModelInferResponse.FromString(answer.SerializeToString())
    assert again == answer
    streaming = pb.ModelStreamInferResponse.FromString(streamed(data))
    assert streaming == pb.ModelStreamInferResponse(infer_response=answer)


def test_a_refusal_in_a_stream_says_which_request_it_is_of() -> None:
    told = pb.ModelStreamInferResponse.FromString(refused("7", "no"))
    assert (told.error_message, told.infer_response.id) == ("no", "7")
