"""The Open Inference Protocol by real servers: answers, names and versions, limits and hostile requests."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from labelloop.errors import InvalidInput, LimitExceeded, NotFound, from_rpc
from labelloop.events.v1.events_pb2 import RunArchived, RunCancelled
from labelloop.inference.v2 import inference_pb2 as pb
from labelloop.inference.v2.inference_pb2_grpc import GRPCInferenceServiceStub
from labelloop.rpc.server import REQUEST_BYTES_MAX

from scorer_svc.inference.naming import ModelNames
from scorer_svc.inference.outputs import NAMES
from tests.integration.inference_scorer import PIXELS, Runs, Scorer, answer_of, model_bytes, served

FIRST, SECOND = model_bytes(1), model_bytes(2)
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 6, 6)).astype(np.uint8)


@pytest.fixture
def runs() -> Runs:
    made = Runs()
    made.begin("run")
    made.train("run", 1, FIRST)
    made.train("run", 2, SECOND)
    return made


@pytest.fixture
async def scorer(runs: Runs) -> AsyncIterator[Scorer]:
    async with served(runs) as up:
        yield up


@pytest.fixture
async def stub(scorer: Scorer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(scorer.address) as way:
        yield GRPCInferenceServiceStub(way)


def request(images: Any = IMAGES, version: str = "", **more: Any) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="samples", datatype="UINT8", shape=images.shape)
    raw = [images.tobytes()]
    return pb.ModelInferRequest(
        model_name="run", model_version=version, inputs=[tensor], raw_input_contents=raw, **more
    )


def posted(images: Any = IMAGES, **more: Any) -> dict[str, Any]:
    tensor = {"name": "samples", "datatype": "UINT8", "shape": list(images.shape), "data": images.ravel().tolist()}
    return {"inputs": [tensor], **more}


def probabilities(answer: pb.ModelInferResponse) -> Any:
    place = [each.name for each in answer.outputs].index("probabilities")
    return np.frombuffer(answer.raw_output_contents[place], "<f4").reshape(tuple(answer.outputs[place].shape))


async def refusal(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_rpc(caught.value)
    assert error is not None, caught.value
    return error


@pytest.mark.parametrize("count", [1, 2, 7, 5_000])
async def test_answers_by_grpc_and_http_are_the_models_own(count: int, scorer: Scorer, stub: Any) -> None:
    images = np.resize(IMAGES, (count, 6, 6))
    expected = answer_of(SECOND, images)
    np.testing.assert_array_equal(probabilities(await stub.ModelInfer(request(images))), expected)
    async with scorer.client() as client:
        response = await client.post("/v2/models/run/infer", json=posted(images))
    told = {each["name"]: each["data"] for each in response.json()["outputs"]}
    assert told["probabilities"] == expected.ravel().astype(float).tolist()
    assert told["predicted"] == expected.argmax(1).tolist()
    assert told["confidence"] == expected.max(1).astype(float).tolist()


@pytest.mark.parametrize("count", [1, 2, 16, 17, 400])
async def test_classes_alone_are_those_of_an_answer_with_probabilities(count: int, stub: Any) -> None:
    images = np.resize(IMAGES, (count, 6, 6))
    whole = await stub.ModelInfer(request(images, outputs=[{"name": name} for name in NAMES]))
    names = ("confidence", "predicted")
    for _ in range(3):  # code for few samples is compiled meanwhile
        alone = await stub.ModelInfer(request(images, outputs=[{"name": name} for name in names], id="7"))
        assert [each.name for each in alone.outputs] == list(names)
        assert list(alone.raw_output_contents) == [whole.raw_output_contents[1], whole.raw_output_contents[0]]
        assert (alone.id, alone.model_version) == ("7", "2")


async def test_refusals_of_calls_for_classes_alone_are_those_of_others(stub: Any) -> None:
    for outputs in ([{"name": "predicted"}], [{"name": "probabilities"}]):
        bad = {"version": "9"}, {"images": IMAGES[:, :5]}
        reasons = [(await refusal(stub.ModelInfer(request(**each, outputs=outputs)))).reason for each in bad]
        assert reasons == ["UNKNOWN_VERSION", "WRONG_SHAPE"]


async def test_many_typed_elements_are_read(stub: Any) -> None:
    images = np.resize(IMAGES, (3_000, 6, 6))
    asked = request(images)
    del asked.raw_input_contents[:]
    asked.inputs[0].contents.uint_contents.extend(images.ravel().tolist())
    np.testing.assert_array_equal(probabilities(await stub.ModelInfer(asked)), answer_of(SECOND, images))


@pytest.mark.parametrize(("version", "model", "told"), [("", SECOND, "2"), ("1", FIRST, "1"), ("2", SECOND, "2")])
async def test_a_version_is_a_round(version: str, model: bytes, told: str, scorer: Scorer, stub: Any) -> None:
    answer = await stub.ModelInfer(request(version=version))
    assert answer.model_version == told
    np.testing.assert_array_equal(probabilities(answer), answer_of(model, IMAGES))
    path = f"/versions/{version}" if version else ""
    async with scorer.client() as client:
        response = await client.post(f"/v2/models/run{path}/infer", json=posted())
    assert response.json()["model_version"] == told
    assert response.json()["parameters"]["model_sha256"] == answer.parameters["model_sha256"].string_param


async def test_a_version_may_be_a_digest_of_one_of_the_runs_models(runs: Runs, stub: Any) -> None:
    digest = next(iter(runs.models))
    answer = await stub.ModelInfer(request(version=digest))
    assert (answer.model_version, answer.parameters["model_sha256"].string_param) == ("1", digest)
    runs.begin("other")
    foreign = runs.train("other", 1, model_bytes(3))
    assert (await refusal(stub.ModelInfer(request(version=foreign)))).reason == "UNKNOWN_VERSION"


@pytest.mark.parametrize("version", ["3", "01", "-1", "latest", "0" * 64, "x" * 5_000, "1 ", "²"])
async def test_other_versions_are_not_found(version: str, stub: Any) -> None:
    error = await refusal(stub.ModelInfer(request(version=version)))
    assert isinstance(error, NotFound)
    assert not (await stub.ModelReady(pb.ModelReadyRequest(name="run", version=version))).ready


def test_an_inherited_model_has_its_digest_for_a_version(runs: Runs) -> None:
    digest = next(iter(runs.models))
    runs.begin("heir", inheritance={"model_sha256": digest})
    names = ModelNames(runs.newest)
    assert names.find("heir", "") == names.find("heir", digest) == ("heir", digest, digest)
    assert names.versions("heir") == [digest]


def test_of_an_archived_run_the_newest_model_answers_by_its_digest(runs: Runs) -> None:
    names, digest = ModelNames(runs.newest), list(runs.models)[1]
    runs.write("run", 2, run_cancelled=RunCancelled(reason="enough"))
    pool = runs.newest.projections.get("run").pool
    facts = RunArchived(archive_sha256="b" * 64, event_count=3, last_sequence=3, model_sha256=digest, pool=pool)
    runs.write("run", run_archived=facts)
    assert names.find("run", "") == names.find("run", digest) == ("run", digest, digest)
    assert (names.versions("run"), names.sample_shape("run")) == ([digest], (6, 6))


async def test_a_run_without_a_model_is_not_ready(runs: Runs, scorer: Scorer, stub: Any) -> None:
    runs.begin("young")
    assert not (await stub.ModelReady(pb.ModelReadyRequest(name="young"))).ready
    assert (await refusal(stub.ModelMetadata(pb.ModelMetadataRequest(name="young")))).reason == "NO_MODEL_YET"
    async with scorer.client() as client:
        assert (await client.get("/v2/models/young/ready")).status_code == 404
        assert (await client.get("/v2/models/run/ready")).status_code == 200


async def test_vectors_may_not_be_missing_and_pixels_may_be_floats(runs: Runs, stub: Any) -> None:
    runs.begin("vectors", dtype="float32", shape=(PIXELS,))
    runs.train("vectors", 1, model_bytes(1, "float32"))
    values = IMAGES.reshape(7, -1).astype("<f4")
    for name in ("run", "vectors"):
        asked = request(values)
        asked.model_name, asked.inputs[0].datatype = name, "FP32"
        await stub.ModelInfer(asked)
        for odd in (np.nan, np.inf):
            asked.raw_input_contents[0] = np.where(values == values[0, 0], odd, values).astype("<f4").tobytes()
            assert (await refusal(stub.ModelInfer(asked))).reason == "NOT_FINITE"


async def test_a_stream_goes_on_behind_a_refusal_that_names_its_request(stub: Any) -> None:
    bad = request(IMAGES[:, :5], id="2")
    asked = [request(id="1"), bad, request(version="1", id="3")]
    answers = [each async for each in stub.ModelStreamInfer(iter(asked))]
    assert [each.infer_response.id for each in answers] == ["1", "2", "3"]
    assert [bool(each.error_message) for each in answers] == [False, True, False]
    assert "of shape [7, 5, 6]" in answers[1].error_message
    np.testing.assert_array_equal(probabilities(answers[2].infer_response), answer_of(FIRST, IMAGES))


async def test_a_stream_ends_with_a_status_for_clients_that_ask_for_it(stub: Any) -> None:
    call = stub.ModelStreamInfer(iter([request(IMAGES[:, :5])]), metadata=[("triton_grpc_error", "true")])
    assert isinstance(await refusal(call.read()), InvalidInput)


async def test_methods_of_the_protocol_that_a_scorer_lacks_are_unimplemented(scorer: Scorer) -> None:
    async with grpc.aio.insecure_channel(scorer.address) as way:
        call: Any = way.unary_unary("/inference.GRPCInferenceService/RepositoryIndex")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_overload_is_refused_as_by_score(runs: Runs, scorer: Scorer, stub: Any) -> None:
    images = np.resize(IMAGES, (60_000, 6, 6))
    with scorer.scoring._backlog.taken(10_000_000_000):
        error = await refusal(stub.ModelInfer(request(images, outputs=[{"name": "predicted"}])))
        assert isinstance(error, LimitExceeded)
        assert (error.reason, error.retry_after_s > 0) == ("OVERLOADED", True)
        head = json.dumps(posted_binary(images)).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        async with scorer.client() as client:
            response = await client.post("/v2/models/run/infer", content=head + images.tobytes(), headers=headers)
    assert (response.status_code, "retry-after" in response.headers) == (429, True)
    assert await stub.ModelInfer(request(images, outputs=[{"name": "predicted"}]))


def posted_binary(images: Any) -> dict[str, Any]:
    size = {"binary_data_size": images.nbytes}
    tensor = {"name": "samples", "datatype": "UINT8", "shape": list(images.shape), "parameters": size}
    return {"inputs": [tensor], "outputs": [{"name": "predicted"}]}


async def test_more_than_a_scorer_reads_is_refused(scorer: Scorer) -> None:
    async with scorer.client() as client:
        response = await client.post("/v2/models/run/infer", content=bytes(REQUEST_BYTES_MAX + 1))
        assert response.status_code == 413
        response = await client.post("/v2/models/run/infer", content=b"[" * (5 * 1024**2))
        assert (response.status_code, "binary data" in response.json()["error"]) == (413, True)


HOSTILE = [
    b"",
    b"[" * 1_000_000,
    b'{"a":' * 200_000,
    b"\xff" * 1_000,
    json.dumps(posted(id="x" * 100_000, outputs=[{"name": "x" * 100_000}])).encode(),
    b'{"inputs": [{"name": "samples", "datatype": "UINT8", "shape": [1e999], "data": []}]}',
    json.dumps({"inputs": [{"name": "samples", "datatype": "UINT8", "shape": [2**62, 36], "data": []}]}).encode(),
    json.dumps({"inputs": [{"name": "samples", "datatype": "UINT8", "shape": [-7, 36], "data": []}]}).encode(),
    json.dumps({"inputs": [*posted()["inputs"], *posted()["inputs"]]}).encode(),
    json.dumps({"inputs": posted()["inputs"] * 1_000}).encode(),
    b'{"inputs": [' + b"{}," * 500_000 + b"{}]}",
    b'{"inputs": [{"name": "samples", "datatype": "FP32", "shape": [1, 36], "data": ['
    + b"[" * 400
    + b"]" * 400
    + b"]}]}",
    b'{"inputs": [{"name": "samples", "datatype": "FP32", "shape": [1, 36], "data": [' + b"NaN," * 35 + b"NaN]}]}",
    b'{"inputs": [{"name": "samples", "datatype": "FP32", "shape": [1, 36], "data": [' + b"9" * 4_000 + b"]}]}",
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_bodies_are_refused_with_an_error_and_little_memory(body: bytes, scorer: Scorer) -> None:
    async with scorer.client() as client:
        tracemalloc.start()
        try:
            response = await client.post("/v2/models/run/infer", content=body)
            assert tracemalloc.get_traced_memory()[1] < 200 * 1024**2
        finally:
            tracemalloc.stop()
        assert response.status_code == 400, response.text[:500]
        told = response.json()
        assert list(told) == ["error"]
        assert 0 < len(told["error"]) < 2_000
        assert (await client.post("/v2/models/run/infer", json=posted())).status_code == 200


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "²", "9" * 50, "0x10", "", "7 7", "999999"])
async def test_header_lengths_that_are_no_length_are_refused(length: str, scorer: Scorer) -> None:
    headers = [(b"Inference-Header-Content-Length", length.encode())]
    async with scorer.client() as client:
        response = await client.post("/v2/models/run/infer", json=posted(), headers=headers)
    assert response.status_code == 400


@pytest.mark.parametrize("length", ["-5", "x", "5, 6", "99999999999999999999999"])
async def test_content_lengths_that_are_no_length_end_the_connection(length: str, scorer: Scorer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", scorer.rest.port)
    writer.write(f"POST /v2/models/run/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{{}}".encode())
    writer.write_eof()
    async with asyncio.timeout(30):
        answer = await reader.read()
    assert not answer or answer.startswith(b"HTTP/1.1 400"), answer
    writer.close()


async def test_a_body_shorter_than_its_content_length_is_given_up_with_the_connection(scorer: Scorer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", scorer.rest.port)
    writer.write(b"POST /v2/models/run/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{}")
    writer.write_eof()
    async with asyncio.timeout(30):
        assert b"200 OK" not in await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/v2", 200),
        ("GET", "/v2/models/run", 200),
        ("GET", "/v2/models/run/versions/1", 200),
        ("GET", "/v2/models/run/config", 200),
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/run/versions/9", 404),
        ("GET", "/v2/models/%2e%2e%2f%00", 404),
        ("GET", "/v2/models/run/infer", 405),
        ("POST", "/v2/models/nobody/infer", 404),
        ("DELETE", "/v2/models/run", 405),
        ("GET", "/", 404),
        ("GET", "/metrics", 404),
    ],
)
async def test_each_path_answers_in_json(verb: str, path: str, status: int, scorer: Scorer) -> None:
    async with scorer.client() as client:
        response = await client.request(verb, path, json=posted() if verb == "POST" else None)
    assert response.status_code == status, response.text
    assert isinstance(response.json(), dict)
    assert ("error" in response.json()) == (status != 200)


async def test_compressed_bodies_are_refused_unread(scorer: Scorer) -> None:
    async with scorer.client() as client:
        headers = {"Content-Encoding": "gzip"}
        response = await client.post("/v2/models/run/infer", content=b"\x1f\x8b", headers=headers)
    assert (response.status_code, "Content-Encoding" in response.json()["error"]) == (400, True)
