"""One run is one trace, over NATS and gRPC."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from labelloop.events.v1.events_pb2 import Event
from labelloop.scorer.v1.scorer_pb2 import ScoreRequest
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, StartRunRequest
from labelloop.wire.broker import connect as connect_broker
from labelloop.wire.subjects import EVERYTHING, STREAM
from labelloop_cli.nats_server import NatsServer
from nats.aio.msg import Msg

from tests.blobs import Blobs, spec, write_blobs
from tests.e2e.driving import finish
from tests.e2e.stopping import ask_to_stop, until
from tests.integration.collector import Collector, Seen, collecting
from tests.integration.watched import Watched, log_lines, service, watched
from tests.patience import PATIENCE_S

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
INTERNAL, SERVER, CLIENT, CONSUMER = 1, 2, 3, 5


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return write_blobs(tmp_path)


async def traced_run(up: Watched, blobs: Blobs) -> str:
    """A run to its end, started in a span of ours; its model."""
    request = StartRunRequest(run_id="traced", spec=spec(blobs, label_budget=10, auto_label_budget=5))
    await up.clients.trainer.StartRun(request, metadata=(("traceparent", f"00-{TRACE}-{CALLER}-01"),))
    return (await finish(up.clients, "traced")).run.latest.model_sha256


async def whole(collector: Collector) -> bool:
    """Whether all that is asked for below has come, and nothing lies below a span that has not."""
    seen = collector.of_trace(TRACE)
    counts = Counter((span.name.rpartition("/")[2], span.kind) for span in seen.values())
    wanted = {("RankPool", SERVER): 3, ("RankPool", CLIENT): 3, ("fit", INTERNAL): 3, ("warm", CONSUMER): 1}
    return counts >= Counter(wanted) and all(span.parent_id in {*seen, CALLER} for span in seen.values())


async def messages(broker: NatsServer) -> list[Msg]:
    """All that the log holds."""
    client = await connect_broker(broker.url, "test")
    try:
        js = client.jetstream()
        count = (await js.stream_info(STREAM)).state.messages
        subscription = await js.subscribe(EVERYTHING, ordered_consumer=True)
        return [await subscription.next_msg(timeout=PATIENCE_S) for _ in range(count)]
    finally:
        await client.close()


async def test_a_run_is_one_trace_over_nats_and_grpc(tmp_path: Path, nats_server: NatsServer, blobs: Blobs) -> None:
    async with collecting() as collector, watched(tmp_path, nats_server, collector.environment) as up:
        await traced_run(up, blobs)
        await until(lambda: whole(collector))
    spans = collector.of_trace(TRACE)

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


async def test_events_tell_of_their_span_in_headers_and_their_bytes_know_nothing_of_it(
    tmp_path: Path, nats_server: NatsServer, blobs: Blobs
) -> None:
    models = set()
    async with collecting() as collector, watched(tmp_path, nats_server, collector.environment) as up:
        models.add(await traced_run(up, blobs))
        request = StartRunRequest(run_id="traced", spec=spec(blobs, label_budget=10, auto_label_budget=5))
        await up.clients.trainer.StartRun(request)  # the second write of its subject, from another span
        standing = await messages(nats_server)
    assert len({message.subject for message in standing}) == len(standing)
    for message in standing:
        assert message.headers is not None
        assert TRACE in message.headers["traceparent"]
        event = Event.FromString(message.data)
        assert event.SerializeToString(deterministic=True) == message.data
    # Nothing of a run depends on whether it is traced, and traced logs are read by services that do not trace.
    async with watched(tmp_path, nats_server) as up:
        assert (await up.clients.trainer.GetRun(GetRunRequest(run_id="traced"))).run.latest.model_sha256 in models
        untraced = StartRunRequest(run_id="untraced", spec=spec(blobs, label_budget=10, auto_label_budget=5))
        await up.clients.trainer.StartRun(untraced)
        models.add((await finish(up.clients, "untraced")).run.latest.model_sha256)
        standing = await messages(nats_server)
    assert len(models) == 1
    ours = [message for message in standing if ".untraced." in message.subject]
    assert ours
    assert not [message for message in ours if "traceparent" in (message.headers or {})]


async def test_a_call_that_is_refused_is_the_callers_fault_and_no_failed_span(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with collecting() as collector, watched(tmp_path, nats_server, collector.environment) as up:
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
                await up.clients.scorer.Score(ScoreRequest(run_id="nobody"))
    span, other = (span for span in collector.spans if span.name.endswith("/Score"))
    assert span.trace_id != other.trace_id, "one call has nothing to do with another"
    assert (span.attributes["rpc.grpc.status"], span.failed) == ("NOT_FOUND", False)
    assert span.attributes["labelloop.run"] == "nobody"


async def test_a_collector_that_is_away_holds_nothing_up(tmp_path: Path, nats_server: NatsServer, blobs: Blobs) -> None:
    nobody = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    async with watched(tmp_path, nats_server, nobody) as up:
        await traced_run(up, blobs)
        for each in up.services.values():
            await ask_to_stop(each)
    said = [line for each in up.services.values() for line in log_lines(each) if "logger" in line]
    assert said
    assert all(line["logger"].startswith("opentelemetry") for line in said)


async def test_spans_not_sent_yet_are_sent_at_the_end(tmp_path: Path, nats_server: NatsServer) -> None:
    async with collecting() as collector:
        late = {**collector.environment, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
        async with watched(tmp_path, nats_server, late) as up:
            with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
                await up.clients.trainer.GetRun(GetRunRequest(run_id="nobody"))
            assert not collector.spans
        assert [span.name for span in collector.spans] == ["labelloop.trainer.v1.TrainerService/GetRun"]


async def test_the_service_goes_by_the_name_that_the_environment_gives_it(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with collecting() as collector:
        told = {**collector.environment, "OTEL_SERVICE_NAME": "mine", "LABELLOOP_NATS_URL": nats_server.url}
        oracle = service("oracle", tmp_path, told)
        try:
            await oracle.start()
            async with grpc.aio.insecure_channel(oracle.address) as channel:
                call: Any = channel.unary_unary("/labelloop.oracle.v1.OracleService/ListOpenSamples")
                await call(b"")
        finally:
            await oracle.stop()
        assert {span.service for span in collector.spans} == {"mine"}


@pytest.mark.parametrize("module", ["trainer_svc.__main__", "scorer_svc.serving", "oracle_svc.__main__"])
def test_nothing_of_opentelemetry_is_imported_where_nothing_is_traced(module: str) -> None:
    look = "import sys; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    code = f"from labelloop.wire import tracing; tracing.set_up('x'); import {module}; {look}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
