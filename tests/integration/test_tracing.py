"""Tracing: a run is one trace across NATS and gRPC."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.eventlog.subjects import EVERYTHING, STREAM
from labelloop.events.v1.events_pb2 import Event
from labelloop.scorer.v1.scorer_pb2 import ScoreRequest
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, StartRunRequest
from labelloop_cli.clients import Endpoints, connect
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.local.stack import Service
from nats.aio.msg import Msg

from tests.blobs import Blobs, spec, write_blobs
from tests.e2e.driving import finish
from tests.e2e.stopping import ask_to_stop, until
from tests.integration.collector import Collector, Seen, collecting
from tests.integration.watched import Watched, log_lines, service, watched
from tests.patience import PATIENCE_S

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
INTERNAL, SERVER, CLIENT, CONSUMER = 1, 2, 3, 5


@dataclass(frozen=True)
class Traced:
    """The spans and the event log of services that completed a run and were stopped.

    ``model`` is the digest of the run's last model.
    """

    collector: Collector
    broker: NatsServer
    model: str


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return write_blobs(tmp_path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def traced(tmp_path_factory: pytest.TempPathFactory, nats_binary: Path) -> AsyncIterator[Traced]:
    folder = tmp_path_factory.mktemp("traced")
    blobs = write_blobs(folder)
    async with NatsServer(nats_binary, folder / "nats") as broker, collecting() as collector:
        async with watched(folder, broker, collector.environment) as up:
            model = await traced_run(up, blobs)
            await up.clients.trainer.StartRun(request("traced", blobs))  # writes the same event, from another span
            await until(lambda: whole(collector))
        yield Traced(collector, broker, model)


def request(run_id: str, blobs: Blobs) -> StartRunRequest:
    return StartRunRequest(run_id=run_id, spec=spec(blobs, label_budget=10, auto_label_budget=5))


@asynccontextmanager
async def alone(name: str, folder: Path, broker: NatsServer, environment: dict[str, str]) -> AsyncIterator[Service]:
    """Run a service without its peers."""
    made = service(name, folder, {**environment, "LABELLOOP_NATS_URL": broker.url})
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def traced_run(up: Watched, blobs: Blobs) -> str:
    """Complete a run that starts in a span of ours, and return its model."""
    await up.clients.trainer.StartRun(request("traced", blobs), metadata=(("traceparent", f"00-{TRACE}-{CALLER}-01"),))
    return (await finish(up.clients, "traced")).run.latest.model_sha256


async def whole(collector: Collector) -> bool:
    """Return whether all spans expected below have arrived, and the parent of each."""
    seen = collector.of_trace(TRACE)
    counts = Counter((span.name.rpartition("/")[2], span.kind) for span in seen.values())
    wanted = {("RankPool", SERVER): 3, ("RankPool", CLIENT): 3, ("fit", INTERNAL): 3, ("warm", CONSUMER): 1}
    return counts >= Counter(wanted) and all(span.parent_id in {*seen, CALLER} for span in seen.values())


async def messages(broker: NatsServer) -> list[Msg]:
    """Return all messages of the event log."""
    client = await connect_broker(broker.url, "test")
    try:
        js = client.jetstream()
        count = (await js.stream_info(STREAM)).state.messages
        subscription = await js.subscribe(EVERYTHING, ordered_consumer=True)
        return [await subscription.next_msg(timeout=PATIENCE_S) for _ in range(count)]
    finally:
        await client.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_run_is_one_trace_over_nats_and_grpc(traced: Traced) -> None:
    spans = traced.collector.of_trace(TRACE)

    def of(service: str, name: str, kind: int) -> list[Seen]:
        found = [s for s in spans.values() if (s.service, s.name, s.kind) == (f"labelloop-{service}", name, kind)]
        assert found, f"the {service} has no span {name}"
        return found

    def above(span: Seen) -> Seen:
        return spans[span.parent_id]

    [start] = of("trainer", "labelloop.trainer.v1.TrainerService/StartRun", SERVER)
    assert (start.parent_id, start.attributes["labelloop.run"]) == (CALLER, "traced")
    [describing] = of("trainer", "labelloop.oracle.v1.OracleService/DescribeDataset", CLIENT)
    [described] = of("oracle", "labelloop.oracle.v1.OracleService/DescribeDataset", SERVER)
    assert (above(describing), above(described)) == (start, describing)
    published = [span for span in of("oracle", "advance", CONSUMER) if above(span) == start]
    assert published, "the oracle carries on from the event that StartRun wrote"
    ranked = of("scorer", "labelloop.scorer.v1.ScorerService/RankPool", SERVER)
    asked = of("trainer", "labelloop.scorer.v1.ScorerService/RankPool", CLIENT)
    assert {above(span) for span in ranked} == set(asked)
    assert len(ranked) == 3
    for span in map(above, asked):
        assert (span.service, span.name, span.attributes["labelloop.run"]) == ("labelloop-trainer", "advance", "traced")
        assert above(span).service == "labelloop-oracle", "which had published the pool, or given the last label"
    assert {above(span).name for span in of("scorer", "warm", CONSUMER)} == {"advance"}
    assert len(of("trainer", "fit", INTERNAL)) == 3
    assert not [span for span in spans.values() if span.failed]


@pytest.mark.asyncio(loop_scope="module")
async def test_events_carry_their_span_in_headers_and_not_in_their_bytes(
    traced: Traced, tmp_path: Path, blobs: Blobs
) -> None:
    models = {traced.model}
    standing = await messages(traced.broker)
    assert len({message.subject for message in standing}) == len(standing)
    for message in standing:
        assert message.headers is not None
        assert TRACE in message.headers["traceparent"]
        event = Event.FromString(message.data)
        assert event.SerializeToString(deterministic=True) == message.data
    # A run does not depend on tracing, and services that do not trace read traced logs.
    async with watched(tmp_path, traced.broker) as up:
        assert (await up.clients.trainer.GetRun(GetRunRequest(run_id="traced"))).run.latest.model_sha256 in models
        await up.clients.trainer.StartRun(request("untraced", blobs))
        models.add((await finish(up.clients, "untraced")).run.latest.model_sha256)
        standing = await messages(traced.broker)
    assert len(models) == 1
    ours = [message for message in standing if ".untraced." in message.subject]
    assert ours
    assert not [message for message in ours if "traceparent" in (message.headers or {})]


async def test_a_refused_call_is_not_a_failed_span(tmp_path: Path, nats_server: NatsServer) -> None:
    async with (
        collecting() as collector,
        alone("scorer", tmp_path, nats_server, collector.environment) as scorer,
        connect(Endpoints(scorer=scorer.address)) as clients,
    ):
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
                await clients.scorer.Score(ScoreRequest(run_id="nobody"))
    span, other = (span for span in collector.spans if span.name.endswith("/Score"))
    assert span.trace_id != other.trace_id, "one call has nothing to do with another"
    assert (span.attributes["rpc.grpc.status"], span.failed) == ("NOT_FOUND", False)
    assert span.attributes["labelloop.run"] == "nobody"


async def test_a_run_completes_without_a_reachable_collector(
    tmp_path: Path, nats_server: NatsServer, blobs: Blobs
) -> None:
    nobody = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    async with watched(tmp_path, nats_server, nobody) as up:
        await traced_run(up, blobs)
        for each in up.services.values():
            await ask_to_stop(each)
    said = [line for each in up.services.values() for line in log_lines(each) if "logger" in line]
    assert said
    assert all(line["logger"].startswith("opentelemetry") for line in said)


async def test_pending_spans_are_sent_at_shutdown(tmp_path: Path, nats_server: NatsServer) -> None:
    async with collecting() as collector:
        late = {**collector.environment, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
        async with alone("trainer", tmp_path, nats_server, late) as trainer:
            async with connect(Endpoints(trainer=trainer.address)) as clients:
                with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
                    await clients.trainer.GetRun(GetRunRequest(run_id="nobody"))
            assert not collector.spans
        assert [span.name for span in collector.spans] == ["labelloop.trainer.v1.TrainerService/GetRun"]


async def test_the_environment_sets_the_service_name_of_spans(tmp_path: Path, nats_server: NatsServer) -> None:
    async with collecting() as collector:
        told = {**collector.environment, "OTEL_SERVICE_NAME": "mine"}
        async with (
            alone("oracle", tmp_path, nats_server, told) as oracle,
            grpc.aio.insecure_channel(oracle.address) as channel,
        ):
            call: Any = channel.unary_unary("/labelloop.oracle.v1.OracleService/ListOpenSamples")
            await call(b"")
        assert {span.service for span in collector.spans} == {"mine"}


@pytest.mark.parametrize("module", ["trainer_svc.__main__", "scorer_svc.bootstrap", "oracle_svc.__main__"])
def test_opentelemetry_is_not_imported_when_tracing_is_off(module: str) -> None:
    look = "import sys; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    code = f"from labelloop.observability import tracing; tracing.set_up('x'); import {module}; {look}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
