"""The load test itself: against services of its own, against some that run, and against a server that lies."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop_cli.clients import Clients
from labelloop_cli.stack import Stack

from tests.blobs import Blobs, spec
from tests.e2e.driving import finish, start

ROOT = Path(__file__).parents[2]
Lie = Callable[[pb.ScoreResponse], None]


async def load(out: Path, *words: str) -> tuple[int, str, list[dict[str, Any]]]:
    """The exit code, what was printed, and the results."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.load", "--seconds", "1", "--out", str(out), *words),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()
    results = out / "results.json"
    return process.returncode or 0, said, json.loads(results.read_text()) if results.exists() else []


async def test_new_models_under_load_drop_no_call_and_are_never_mixed(tmp_path: Path) -> None:
    code, said, results = await load(tmp_path, "--only", "swap", "--seconds", "3")
    assert code == 0, said
    assert [result["mode"] for result in results] == ["closed", "open"]
    for result in results:
        assert list(result["statuses"]) == ["OK"]
        assert result["wrong"] == {}
        assert "models answered" in result["note"]
    assert "<svg" in (tmp_path / "report.html").read_text()


async def test_services_that_run_are_only_read(tmp_path: Path, stack: Stack, clients: Clients, blobs: Blobs) -> None:
    await start(clients, "done", spec(blobs))
    before = await finish(clients, "done")
    words = ("--host", stack.endpoints.scorer, "--trainer", stack.endpoints.trainer, "--run", "done")
    code, said, results = await load(tmp_path, *words, "--only", "a")
    assert code == 0, said
    assert {result["name"] for result in results} >= {"unary 1", "stream 64", "RankPool during a run"}
    assert all(not result.get("wrong") for result in results)
    assert await finish(clients, "done") == before


def another_class(answer: pb.ScoreResponse) -> None:
    answer.predicted[0] = (answer.predicted[0] + 1) % 3


def another_model(answer: pb.ScoreResponse) -> None:
    answer.model_sha256 = "0" * 64


def one_image_less(answer: pb.ScoreResponse) -> None:
    del answer.predicted[-1]


@pytest.mark.parametrize("lie", [another_class, another_model, one_image_less])
async def test_a_server_that_lies_now_and_then_is_found_out(
    tmp_path: Path, stack: Stack, clients: Clients, blobs: Blobs, lie: Lie
) -> None:
    await start(clients, "done", spec(blobs))
    await finish(clients, "done")
    async with liar(stack.endpoints.scorer, lie) as address:
        words = ("--host", address, "--trainer", stack.endpoints.trainer, "--run", "done", "--only", "unary 64")
        code, said, results = await load(tmp_path, *words)
    assert code == 1
    assert "WRONG" in said
    assert all(0 < sum(result["wrong"].values()) < result["calls"] for result in results)


@asynccontextmanager
async def liar(scorer: str, lie: Lie) -> AsyncIterator[str]:
    """The address of a server that hands calls on to ``scorer``, and lies in one answer of seven."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    async with grpc.aio.insecure_channel(scorer) as channel:
        server.add_generic_rpc_handlers((_Lying(channel, lie),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)


class _Lying(grpc.GenericRpcHandler):
    def __init__(self, channel: grpc.aio.Channel, lie: Lie) -> None:
        self._channel, self._lie, self._answers = channel, lie, 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method: Any = self._channel.unary_unary(handler_call_details.method)

        async def hand_on(request: bytes, context: Any) -> bytes:
            answer = bytes(await method(request))
            self._answers += 1
            if not handler_call_details.method.endswith("/Score") or self._answers % 7:
                return answer
            told = pb.ScoreResponse.FromString(answer)
            self._lie(told)
            return told.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(hand_on)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "127.0.0.1:1"), "name HOST, TRAINER and RUN"),
        (("--host", "127.0.0.1:1", "--trainer", "127.0.0.1:1", "--run", "r"), "does not answer"),
    ],
)
async def test_a_target_that_cannot_be_is_said_in_a_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    code, output, _ = await load(tmp_path, *words)
    assert code in {1, 2}
    assert said in output
    assert "Traceback" not in output
