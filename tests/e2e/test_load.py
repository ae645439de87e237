"""The load test: against its own services, against running ones, and against a server with wrong answers."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from labelloop.errors import NotFound
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop_cli.clients import Clients
from labelloop_cli.local.stack import Stack
from platformdirs import user_cache_path

from tests.bench.cores import family
from tests.bench.h2load_program import Program, find_or_get
from tests.blobs import Blobs, spec
from tests.e2e.driving import finish, start
from tests.e2e.stopping import until
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
Lie = Callable[[pb.ScoreResponse], None]


async def started(out: Path, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.load", "--seconds", "1", "--out", str(out), *words),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def load(out: Path, *words: str) -> tuple[int, str, list[dict[str, Any]]]:
    """Return the exit code, the output and the results."""
    process = await started(out, *words)
    said = (await process.communicate())[0].decode()
    results = out / "results.json"
    return process.returncode or 0, said, json.loads(results.read_text()) if results.exists() else []


async def test_model_swaps_under_load_lose_no_call_and_give_no_wrong_answer(tmp_path: Path) -> None:
    swapped = False
    light = (
        "--share",
        "0.05",
    )  # at half the rate, a scorer that stalls for a tenth of a second sheds calls as overload
    for seconds in (3, 15, 75):  # a busy machine may fit no model in the shortest
        code, said, results = await load(tmp_path, "--only", "swap", "--seconds", str(seconds), *light)
        assert code == 0, said
        assert [result["mode"] for result in results] == ["closed", "open"]
        for result in results:
            assert list(result["statuses"]) == ["OK"]
            assert result["wrong"] == {}
        swapped = all("models answered" in result["note"] for result in results)
        if swapped:
            break
    assert swapped, said
    assert "<svg" in (tmp_path / "report.html").read_text()


async def test_running_services_are_only_read(tmp_path: Path, stack: Stack, clients: Clients, blobs: Blobs) -> None:
    await start(clients, "done", spec(blobs))
    before = await finish(clients, "done")
    words = ("--host", stack.endpoints.scorer, "--trainer", stack.endpoints.trainer, "--run", "done")
    code, said, results = await load(tmp_path, *words, "--only", "Rank")
    assert code == 0, said
    assert {result["name"] for result in results} == {"RankPool during a run"}
    assert all(not result.get("wrong") for result in results)
    assert await finish(clients, "done") == before


async def test_without_a_trainer_the_scorers_answers_are_checked_and_the_rest_skipped(
    tmp_path: Path, stack: Stack, clients: Clients, blobs: Blobs
) -> None:
    await start(clients, "done", spec(blobs))
    model = (await finish(clients, "done")).run.latest.model_sha256
    for named in (("--run", "done"), ("--model", model)):
        code, said, results = await load(tmp_path, "--host", stack.endpoints.scorer, *named, "--only", "un")
        assert code == 0, said
        assert {result["name"]: result["mode"] for result in results if result["mode"] != "closed"} == {
            "unary 1": "open",
            "unary 64": "open",
            "RankPool during a run": "skipped",
            "model swap under load": "skipped",
        }
        assert said.count("name TRAINER and RUN") == 2
        assert all(
            result["statuses"].keys() == {"OK"} and not result["wrong"] for result in results if "calls" in result
        )


async def test_h2load_and_the_server_count_the_same_calls(tmp_path: Path, h2load: Program) -> None:
    code, said, [result] = await load(tmp_path, "--only", "cross-check")
    assert code == 0, said
    assert result["statuses"] == {"OK": result["calls"]}


async def test_at_four_times_the_capacity_calls_succeed_or_are_refused(tmp_path: Path, h2load: Program) -> None:
    code, said, [result] = await load(tmp_path, "--only", "4x", "--seconds", "2")
    assert code == 0, said
    assert result["offered_s"] == 4 * result["capacity_s"]
    assert result["goodput_s"] > 0
    assert result["statuses"].keys() <= {"OK", "CANCELLED", "RESOURCE_EXHAUSTED"}
    assert "% of the capacity" in (tmp_path / "report.html").read_text()


async def test_ctrl_c_ends_all_processes_and_writes_no_results(tmp_path: Path, nats_binary: Path) -> None:
    process = await started(tmp_path, "--seconds", "600", "--only", "unary 1")
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        while b"closed loop" not in await process.stdout.readline():
            assert not process.stdout.at_eof(), "it ended by itself"

        async def locust_runs() -> bool:
            return any(b"locust" in command_of(pid) for pid in family(process.pid))

        await until(locust_runs)
    started_here = family(process.pid)
    process.send_signal(signal.SIGINT)  # to this process only: a terminal would send it to Locust too
    rest, _ = await process.communicate()
    assert process.returncode == 130, rest.decode()
    assert b"Traceback" not in rest
    assert len(started_here) > 5, "a broker, three services and Locust"
    assert [pid for pid in started_here if command_of(pid)] == []
    assert not (tmp_path / "results.json").exists()


def command_of(pid: int) -> bytes:
    """Return the command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


@pytest.fixture(scope="session")
def h2load() -> Program:
    try:
        return find_or_get(user_cache_path("labelloop"))
    except NotFound as error:
        pytest.skip(error.message)


def another_class(answer: pb.ScoreResponse) -> None:
    answer.predicted[0] = (answer.predicted[0] + 1) % 3


async def test_occasional_wrong_answers_of_a_server_are_detected(
    tmp_path: Path, stack: Stack, clients: Clients, blobs: Blobs
) -> None:
    await start(clients, "done", spec(blobs))
    await finish(clients, "done")
    async with liar(stack.endpoints.scorer, another_class) as address:
        words = ("--host", address, "--trainer", stack.endpoints.trainer, "--run", "done", "--only", "unary 64")
        code, said, results = await load(tmp_path, *words)
    assert code == 1
    assert "WRONG" in said
    assert all(0 < sum(result["wrong"].values()) < result["calls"] for result in results)


@asynccontextmanager
async def liar(scorer: str, lie: Lie) -> AsyncIterator[str]:
    """Yield the address of a server that forwards calls to ``scorer`` and falsifies every seventh answer."""
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
        (("--host", "127.0.0.1:1"), "name HOST and what to ask it for"),
        (("--run", "r"), "name HOST and what to ask it for"),
        (("--host", "127.0.0.1:1", "--trainer", "127.0.0.1:1", "--run", "r"), "does not answer"),
        (("--host", "127.0.0.1:1", "--run", "r"), "does not answer"),
    ],
)
async def test_an_unusable_target_is_reported_in_a_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    code, output, _ = await load(tmp_path, *words)
    assert code in {1, 2}
    assert said in output
    assert "Traceback" not in output
