"""KServe's SDK asks a scorer, by gRPC and HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.conftest import Served
from tests.clients.environments import program_of, said_by

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("way", ["grpc", "rest"])
async def test_answers_are_those_of_onnx_runtime(way: str, served: Served) -> None:
    python = await program_of("kserve")
    await said_by(python, Path(__file__).with_name("kserve_calls.py"), served.about, way)
