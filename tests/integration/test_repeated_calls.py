"""Commands repeat calls that are safe to repeat while a service is away, by real gRPC servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from labelloop.errors import LabelloopError, LimitExceeded, NotFound, Unready, WrongState
from labelloop.oracle.v1 import oracle_pb2
from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceServicer, add_OracleServiceServicer_to_server
from labelloop.rpc.call_metrics import CallCounts
from labelloop.rpc.handlers import guarded
from labelloop.scorer.v1 import scorer_pb2
from labelloop.trainer.v1 import trainer_pb2
from labelloop.trainer.v1.trainer_pb2_grpc import TrainerServiceServicer, add_TrainerServiceServicer_to_server
from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.repeated_calls import REPEATABLE

NOT_REPEATED = {
    "CancelRun",  # a second one is told that the run has ended
    "ImportRun",  # its parts are gone once they were read
    "WatchRun",  # reconnects by itself, for as long as it takes
    "ScoreStream",
    "CancelRequests",
    "ResendRequests",  # a second one asks once more
    "ReleaseLeases",
    "RemoveUpload",  # a second one finds no upload
    "ReplayDeadLetters",
    "DiscardDeadLetters",
    "AcceptWithdrawals",  # a second one finds nothing to withdraw
}


class Flaky:
    """Fails the first calls with errors, and counts calls by method."""

    def __init__(self) -> None:
        self.errors: list[LabelloopError] = []
        self.calls: list[str] = []

    def called(self, method: str) -> None:
        self.calls.append(method)
        if self.errors:
            raise self.errors.pop(0)


class Trainer(TrainerServiceServicer):
    def __init__(self, flaky: Flaky) -> None:
        self._flaky, self.runs = flaky, {"r"}

    async def GetRun(self, request: Any, context: Any) -> trainer_pb2.GetRunResponse:  # noqa: N802
        self._flaky.called("GetRun")
        if request.run_id not in self.runs:
            raise unknown(request.run_id)
        return trainer_pb2.GetRunResponse(run=trainer_pb2.RunStatus(run_id=request.run_id))

    async def StartRun(self, request: Any, context: Any) -> trainer_pb2.StartRunResponse:  # noqa: N802
        self._flaky.called("StartRun")
        return trainer_pb2.StartRunResponse(run=trainer_pb2.RunStatus(run_id=request.run_id or "named"))

    async def CancelRun(self, request: Any, context: Any) -> trainer_pb2.CancelRunResponse:  # noqa: N802
        self._flaky.called("CancelRun")
        return trainer_pb2.CancelRunResponse()

    async def ListLabels(self, request: Any, context: Any) -> AsyncIterator[trainer_pb2.ListLabelsResponse]:  # noqa: N802
        self._flaky.called("ListLabels")
        for sample_id in range(3):
            yield trainer_pb2.ListLabelsResponse(labels=[trainer_pb2.LabelRecord(sample_id=sample_id)])
        if request.run_id == "breaks":
            raise Unready("AWAY", "gone in the middle")


class Oracle(OracleServiceServicer):
    def __init__(self, flaky: Flaky) -> None:
        self._flaky = flaky

    async def GetBacklog(self, request: Any, context: Any) -> oracle_pb2.GetBacklogResponse:  # noqa: N802
        self._flaky.called("GetBacklog")
        return oracle_pb2.GetBacklogResponse()

    async def ListRequests(self, request: Any, context: Any) -> AsyncIterator[oracle_pb2.LabelRequest]:  # noqa: N802
        self._flaky.called("ListRequests")
        yield oracle_pb2.LabelRequest(run_id=request.run_id)


def unknown(run_id: str) -> NotFound:
    return NotFound("UNKNOWN_RUN", f"there is no run {run_id!r}", run_id=run_id)


@pytest.fixture
def trainer_says() -> Flaky:
    return Flaky()


@pytest.fixture
def oracle_says() -> Flaky:
    return Flaky()


def serving(trainer: Flaky, oracle: Flaky, port: int = 0) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    registrar = guarded(server, CallCounts())
    add_TrainerServiceServicer_to_server(Trainer(trainer), registrar)  # type: ignore[abstract]
    add_OracleServiceServicer_to_server(Oracle(oracle), registrar)  # type: ignore[abstract]
    return server, server.add_insecure_port(f"127.0.0.1:{port}")


@pytest.fixture
async def clients(trainer_says: Flaky, oracle_says: Flaky) -> AsyncIterator[Clients]:
    server, port = serving(trainer_says, oracle_says)
    await server.start()
    async with connect(Endpoints(trainer=f"127.0.0.1:{port}", oracle=f"127.0.0.1:{port}")) as clients:
        try:
            yield clients
        finally:
            await server.stop(None)


def test_every_method_is_either_repeated_or_known_not_to_be() -> None:
    services = [
        descriptor_pool.Default().FindServiceByName(f"labelloop.{name}.v1.{name.capitalize()}Service")
        for name in ("trainer", "scorer", "oracle")
    ]
    assert scorer_pb2.DESCRIPTOR.name  # imported, so that its service is in the pool
    methods = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
    assert {method for method in methods if method.rpartition("/")[2] not in NOT_REPEATED} == REPEATABLE


async def test_a_service_that_comes_back_is_asked_again(
    trainer_says: Flaky, oracle_says: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: asyncio.Queue[str] = asyncio.Queue()
    monkeypatch.setattr("labelloop_cli.clients.tell", lambda said: notes.put_nowait(" ".join(said)))
    first, port = serving(trainer_says, oracle_says)
    await first.start()
    address = f"127.0.0.1:{port}"
    async with connect(Endpoints(trainer=address, oracle=address)) as clients:
        await clients.oracle.GetBacklog(oracle_pb2.GetBacklogRequest())
        await first.stop(None)
        asking = asyncio.ensure_future(clients.oracle.GetBacklog(oracle_pb2.GetBacklogRequest()))
        assert await notes.get() == f"the oracle at {address} does not answer; trying again for 30 s"
        second, _ = serving(trainer_says, oracle_says, port)
        await second.start()
        await asking
        await second.stop(None)


async def test_a_service_that_nobody_started_here_is_reported_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unready, match="does not answer"):
        async with connect(Endpoints(oracle="127.0.0.1:1")) as clients:
            await clients.oracle.GetBacklog(oracle_pb2.GetBacklogRequest())
    assert "trying again" not in capsys.readouterr().err


async def test_a_service_elsewhere_is_given_up_after_the_time_set(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unready, match="does not answer"):
        async with connect(Endpoints(oracle="nowhere.invalid:1", retry_s=0.5)) as clients:
            await clients.oracle.GetBacklog(oracle_pb2.GetBacklogRequest())
    assert capsys.readouterr().err.count("trying again") == 1


async def test_a_call_that_reads_is_repeated_until_it_succeeds(clients: Clients, trainer_says: Flaky) -> None:
    trainer_says.errors = [Unready("AWAY", "not now")] * 3
    assert (await clients.trainer.GetRun(trainer_pb2.GetRunRequest(run_id="r"))).run.run_id == "r"
    assert trainer_says.calls == ["GetRun"] * 4


async def test_a_call_that_a_busy_service_refused_is_repeated_even_if_it_writes(
    clients: Clients, trainer_says: Flaky
) -> None:
    trainer_says.errors = [LimitExceeded("TOO_MANY_CALLS", "later", retry_after_s=1)]
    await clients.trainer.CancelRun(trainer_pb2.CancelRunRequest(run_id="r"))
    assert trainer_says.calls == ["CancelRun"] * 2
    trainer_says.errors = [LimitExceeded("TOO_LARGE", "never")]
    with pytest.raises(grpc.aio.AioRpcError, match="never"):
        await clients.trainer.CancelRun(trainer_pb2.CancelRunRequest(run_id="r"))


async def test_a_stream_is_repeated_from_its_start_only(clients: Clients, trainer_says: Flaky) -> None:
    trainer_says.errors = [Unready("AWAY", "not now")] * 2
    labels = await clients.labels("r")
    assert [label.sample_id for label in labels] == [0, 1, 2]
    assert trainer_says.calls == ["ListLabels"] * 3
    with pytest.raises(grpc.aio.AioRpcError, match="gone in the middle"):
        await clients.labels("breaks")
    assert trainer_says.calls == ["ListLabels"] * 4


async def test_what_is_not_safe_to_repeat_fails_at_once(clients: Clients, trainer_says: Flaky) -> None:
    calls: list[tuple[Any, Any]] = [
        (clients.trainer.CancelRun, trainer_pb2.CancelRunRequest(run_id="r")),
        (clients.trainer.StartRun, trainer_pb2.StartRunRequest()),  # each call would start another run
    ]
    for call, request in calls:
        trainer_says.errors, trainer_says.calls = [Unready("AWAY", "not now")], []
        with pytest.raises(grpc.aio.AioRpcError, match="not now"):
            await call(request)
        assert len(trainer_says.calls) == 1


async def test_a_run_with_an_id_is_started_again(clients: Clients, trainer_says: Flaky) -> None:
    trainer_says.errors = [Unready("AWAY", "not now")]
    assert (await clients.trainer.StartRun(trainer_pb2.StartRunRequest(run_id="mine"))).run.run_id == "mine"


async def test_other_errors_are_not_repeated(clients: Clients, trainer_says: Flaky) -> None:
    trainer_says.errors = [WrongState("ODD", "cannot be")]
    with pytest.raises(grpc.aio.AioRpcError, match="cannot be"):
        await clients.trainer.GetRun(trainer_pb2.GetRunRequest(run_id="r"))
    assert trainer_says.calls == ["GetRun"]


async def test_an_oracle_that_has_not_heard_of_a_run_is_asked_again(
    clients: Clients, oracle_says: Flaky, trainer_says: Flaky, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle_says.errors = [unknown("r")] * 2
    request = oracle_pb2.ListRequestsRequest(run_id="r")
    assert [each.run_id async for each in clients.oracle.ListRequests(request)] == ["r"]
    assert oracle_says.calls == ["ListRequests"] * 3
    assert "the oracle has not heard of run r yet; trying again for 10 s" in capsys.readouterr().err


async def test_a_run_that_the_trainer_does_not_know_is_unknown_at_once(
    clients: Clients, oracle_says: Flaky, trainer_says: Flaky
) -> None:
    oracle_says.errors = [unknown("misspelt")]
    with pytest.raises(grpc.aio.AioRpcError, match="there is no run 'misspelt'"):
        await clients.oracle.GetBacklog(oracle_pb2.GetBacklogRequest(run_id="misspelt"))
    assert (oracle_says.calls, trainer_says.calls) == (["GetBacklog"], ["GetRun"])


async def test_another_trainer_that_has_not_heard_of_a_run_started_here_is_asked_again(
    clients: Clients, trainer_says: Flaky
) -> None:
    run_id = (await clients.trainer.StartRun(trainer_pb2.StartRunRequest())).run.run_id
    trainer_says.errors, trainer_says.calls = [unknown(run_id)], []
    assert len(await clients.labels(run_id)) == 3
    assert trainer_says.calls == ["ListLabels"] * 2


async def test_a_cancelled_command_cancels_its_call(
    clients: Clients, oracle_says: Flaky, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle_says.errors = [Unready("AWAY", "not now")] * 1_000
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await clients.oracle.GetBacklog(oracle_pb2.GetBacklogRequest())
    assert "not now; trying again" in capsys.readouterr().err
