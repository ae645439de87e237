"""Metrics of running services."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from importlib.util import find_spec
from pathlib import Path

import grpc
import numpy as np
import pytest
from labelloop.errors import WrongState
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.eventlog.log import EventLog
from labelloop.events.v1.events_pb2 import Event, LabelProvided
from labelloop.oracle.v1.oracle_pb2 import OpenSample, SubmitLabelsRequest, SubmittedLabel
from labelloop.scorer.v1.scorer_pb2 import ScoreRequest
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceStub
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.local.stack import Service

from tests.blobs import IMAGE_BYTES, Blobs, spec, write_blobs
from tests.e2e.driving import finish, start, waiting_samples
from tests.e2e.stopping import until
from tests.integration.watched import Watched, page, samples, service, value, watched
from tests.patience import PATIENCE_S

BY_PEOPLE = 2
KERNEL = "integer" if find_spec("llvmlite") else "none"


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return write_blobs(tmp_path)


async def answer_a_batch(up: Watched, blobs: Blobs, run_id: str) -> None:
    """Label a batch as annotators would, and return once the next one is open."""
    truth = np.load(blobs.labels)

    async def waiting(unlike: list[OpenSample]) -> list[OpenSample]:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = await waiting_samples(up.clients, run_id)
                if len(found) == 5 and found != unlike:
                    return found
                await asyncio.sleep(0.01)

    batch = await waiting([])
    labels = [SubmittedLabel(sample_id=each.sample_id, label=int(truth[each.sample_id])) for each in batch]
    await up.clients.oracle.SubmitLabels(SubmitLabelsRequest(run_id=run_id, annotator="kim", labels=labels))
    await waiting(batch)


async def test_rounds_labels_fits_and_calls_of_a_run_are_each_counted_once(
    tmp_path: Path, nats_server: NatsServer, blobs: Blobs
) -> None:
    async with watched(tmp_path, nats_server) as up:
        await start(up.clients, "whole", spec(blobs))
        await finish(up.clients, "whole")
        trainer, oracle, scorer = (up.samples(name) for name in ("trainer", "oracle", "scorer"))
    assert value(trainer, "labelloop_rounds_total") == 12
    assert value(trainer, "labelloop_auto_labels_total") == 30
    assert value(oracle, "labelloop_labels_paid_total") == 30
    assert value(trainer, "labelloop_fit_seconds_count") == 12
    assert value(trainer, "labelloop_runs", phase="finished") == value(trainer, "labelloop_runs") == 1
    assert value(trainer, "labelloop_grpc_calls_total", method="StartRun", code="OK") == 1
    assert value(scorer, "labelloop_grpc_calls_total", method="RankPool", code="OK") == 12
    assert value(scorer, "labelloop_grpc_call_seconds_count", method="RankPool") == 12
    assert 0 < value(scorer, "labelloop_grpc_call_seconds_sum", method="RankPool") < 60
    assert value(oracle, "labelloop_open_samples") == value(oracle, "labelloop_oldest_request_age_seconds") == 0
    for name, found in (("trainer", trainer), ("oracle", oracle), ("scorer", scorer)):
        assert value(found, "labelloop_start_time_seconds", service=name) > 0
        assert value(found, "process_resident_memory_bytes") > 0
        assert value(found, "labelloop_events_passed_over_total") == 0
        assert not [sample for sample in found if "run" in sample.labels], "the run is over"


async def test_an_unfinished_run_shows_its_open_samples_its_round_and_its_model(
    tmp_path: Path, nats_server: NatsServer, blobs: Blobs
) -> None:
    async with watched(tmp_path, nats_server) as up:
        await start(up.clients, "by_hand", spec(blobs, label_source=BY_PEOPLE))
        await answer_a_batch(up, blobs, "by_hand")
        trainer, oracle, scorer = (up.samples(name) for name in ("trainer", "oracle", "scorer"))
        again = up.samples("oracle")
        model = (await up.clients.trainer.GetRun(GetRunRequest(run_id="by_hand"))).run.latest.model_sha256
    assert value(oracle, "labelloop_open_samples", source="queue") == 5
    assert value(oracle, "labelloop_open_samples", source="dataset") == 0
    ages = [value(each, "labelloop_oldest_request_age_seconds", source="queue") for each in (oracle, again)]
    assert 0 < ages[0] < ages[1] < 60
    assert value(trainer, "labelloop_runs", phase="labelling") == 1
    assert value(trainer, "labelloop_run_round", run="by_hand") == 1
    assert value(scorer, "labelloop_model_info", run="by_hand", model=model) == 1
    assert value(scorer, "labelloop_ranking_kernel_info", kernel=KERNEL) == 1


async def test_every_service_counts_the_events_that_it_ignores(
    tmp_path: Path, nats_server: NatsServer, blobs: Blobs
) -> None:
    client = await connect_broker(nats_server.url, "test")
    try:
        async with watched(tmp_path, nats_server) as up:
            await start(up.clients, "by_hand", spec(blobs, label_source=BY_PEOPLE))
            await client.jetstream().publish("labelloop.v1.by_hand.0.label.9.0", b"\xff not a message")
            unasked = LabelProvided(sample_id=0, label=0, source="queue")
            await EventLog(client).append_once(Event(run_id="by_hand", round=9, label_provided=unasked))

            async def counted() -> bool:
                found = [up.samples(name) for name in up.services]
                whys = ("unreadable", "against_the_rules")
                return all(
                    value(each, "labelloop_events_passed_over_total", why=why) == 1 for each in found for why in whys
                )

            await until(counted)
    finally:
        await client.close()


async def test_lost_appends_and_restarted_subscriptions_are_counted(
    tmp_path: Path, nats_server: NatsServer, blobs: Blobs
) -> None:
    async with watched(tmp_path, nats_server) as up:
        await start(up.clients, "twice", spec(blobs, label_source=BY_PEOPLE))
        await start(up.clients, "twice", spec(blobs, label_source=BY_PEOPLE))
        await nats_server.stop()
        await nats_server.start()

        async def back() -> bool:
            found = (up.samples(name) for name in up.services)
            return all(value(each, "labelloop_followings_anew_total") >= 1 for each in found)

        await until(back)
        assert value(up.samples("trainer"), "labelloop_appends_lost_total") == 1


async def test_a_metrics_port_in_use_is_one_clear_error(tmp_path: Path, nats_server: NatsServer) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = {"LABELLOOP_NATS_URL": nats_server.url, "LABELLOOP_METRICS_PORT": str(other.getsockname()[1])}
        refused = service("oracle", tmp_path, taken)
        with pytest.raises(WrongState, match=r"cannot listen on .*LABELLOOP_METRICS_PORT"):
            await refused.start()
    assert "Traceback" not in refused.log_file.read_text()


async def test_without_a_metrics_port_no_metrics_are_served(tmp_path: Path, nats_server: NatsServer) -> None:
    quiet = Service("oracle", tmp_path, {"LABELLOOP_NATS_URL": nats_server.url})
    try:
        await quiet.start()
        assert "metrics" not in quiet.log_file.read_text()
    finally:
        await quiet.stop()


async def score(scorer: Service, model: str) -> None:
    """Send one image on a new connection, so that any worker may get it."""
    request = ScoreRequest(model_sha256=model, images=bytes(IMAGE_BYTES), dtype="uint8")
    async with grpc.aio.insecure_channel(scorer.address) as channel:
        await ScorerServiceStub(channel).Score(request)


async def test_scorer_workers_share_one_page_and_counts_of_a_dead_worker_remain(
    tmp_path: Path, nats_server: NatsServer, blobs: Blobs
) -> None:
    async with watched(tmp_path, nats_server, {"SCORER_WORKERS": "2"}) as up:
        await start(up.clients, "by_hand", spec(blobs, label_source=BY_PEOPLE))
        await answer_a_batch(up, blobs, "by_hand")
        model = (await up.clients.trainer.GetRun(GetRunRequest(run_id="by_hand"))).run.latest.model_sha256
        scorer = up.services["scorer"]
        for _ in range(20):
            await score(scorer, model)
        found = up.samples("scorer")
        assert value(found, "labelloop_grpc_calls_total", method="Score", code="OK") == 20
        assert value(found, "labelloop_grpc_call_seconds_count", method="Score") == 20
        assert value(found, "labelloop_model_info", run="by_hand", model=model) == 1
        assert value(found, "labelloop_ranking_kernel_info", kernel=KERNEL) == 1
        assert value(found, "labelloop_start_time_seconds") > 0
        assert len([line for line in up.lines("scorer") if line["event"] == "metrics"]) == 1, "workers serve none"
        workers = {sample.labels.get("worker") for sample in found if sample.name == "process_resident_memory_bytes"}
        assert workers == {None, "0", "1"}
        assert scorer.process is not None
        pid = scorer.process.pid
        os.kill(int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]), signal.SIGKILL)

        async def started_again() -> bool:
            return value(samples(scorer), "labelloop_worker_restarts_total") == 1

        await until(started_again)
        assert value(up.samples("scorer"), "labelloop_grpc_calls_total", method="Score", code="OK") == 20
        text = page(scorer)
    types = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types)), "each family is there once"
