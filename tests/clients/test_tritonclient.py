"""Triton's client library asks a scorer: by gRPC and HTTP, blocking and with coroutines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from labelloop.inference.v2 import inference_pb2

from tests.clients.conftest import Served
from tests.clients.environments import program_of, said_by

_EXAMPLE = Path(__file__).parents[2] / "deploy/examples/ask_by_tritonclient.py"
_PROGRAM = Path(__file__).with_name("triton_calls.py")

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("way", ["grpc", "http", "grpc.aio", "http.aio"])
async def test_answers_are_those_of_onnx_runtime_and_refusals_say_why(way: str, served: Served) -> None:
    python = await program_of("tritonclient")
    await said_by(python, _PROGRAM, served.about, way)


async def test_the_program_on_the_page_prints_the_classes(served: Served, tmp_path: Path) -> None:
    known = np.load(served.answers)
    np.save(tmp_path / "pictures.npy", known["images"])
    program = _EXAMPLE.read_text()
    for written, here in (
        ("127.0.0.1:8000", served.rest),
        ('"pets"', '"blobs"'),
        ("pictures.npy", str(tmp_path / "pictures.npy")),
    ):
        assert program.count(written) == 1
        program = program.replace(written, here)
    said = await said_by(await program_of("tritonclient"), "-c", program)
    assert said.startswith(str(known["pixels"].argmax(axis=1)))


async def test_names_and_numbers_on_the_wire_are_those_of_the_library() -> None:
    python = await program_of("tritonclient")
    theirs = json.loads((await said_by(python, "-W", "ignore", _PROGRAM, "-", "numbers")).splitlines()[-1])
    file = inference_pb2.DESCRIPTOR
    for method in file.services_by_name["GRPCInferenceService"].methods:
        ours = [method.input_type.full_name, method.output_type.full_name]
        assert theirs["methods"][method.name] == [*ours, method.client_streaming, method.server_streaming]
    waiting, seen = list(file.message_types_by_name.values()), set[str]()
    while waiting:
        message = waiting.pop()
        seen.add(message.full_name)
        waiting += message.nested_types
        for field in message.fields:
            kind = field.message_type.full_name if field.message_type else ""
            assert theirs["messages"][message.full_name][field.name] == [field.number, field.type, kind]
    assert {"inference.ModelInferRequest", "inference.InferParameter", "inference.ModelConfig"} <= seen
