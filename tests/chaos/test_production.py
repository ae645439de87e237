"""Runs and people on a world as in production: nobody trips over another, and a node that dies is soon forgotten."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from itertools import cycle
from pathlib import Path

import pytest
import pytest_asyncio
from labelloop.events.v1.events_pb2 import LabelSource, Protocol, QueueSpec, RunSpec
from labelloop.trainer.v1.trainer_pb2 import Phase

from tests.blobs import Blobs, spec, write_blobs
from tests.chaos.complaints import LogReader, restarts
from tests.chaos.production import Production, production
from tests.e2e.driving import finish, reach_round, start
from tests.integration.production_broker import new_enough
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.asyncio(loop_scope="module")

RUNS, PEOPLE = 10, 3
LABELS = 60
STANDS_STILL_S = 15.0  # the aim is ten; the rest is room for a busy machine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(tmp_path_factory: pytest.TempPathFactory, nats_binary: Path) -> AsyncIterator[Production]:
    folder = tmp_path_factory.mktemp("production")
    async with production(new_enough(nats_binary, folder / "packages"), folder) as made:
        yield made


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Blobs:
    return write_blobs(tmp_path_factory.mktemp("blobs"))


def by_dataset(blobs: Blobs) -> RunSpec:
    return spec(blobs)


def by_people(blobs: Blobs) -> RunSpec:
    return spec(
        blobs,
        label_source=LabelSource.LABEL_SOURCE_QUEUE,
        queue=QueueSpec(),
        protocol=Protocol.PROTOCOL_HONEST,
        label_budget=LABELS,
        auto_label_budget=0,
        stopping_sample_count=0,
    )


async def test_runs_and_people_at_once_meet_no_fault_of_ours(there: Production, blobs: Blobs) -> None:
    logs = LogReader(there.services.values())
    runs = [f"calm{number}" for number in range(RUNS)]
    await asyncio.gather(
        *(start(client, run_id, by_dataset(blobs)) for client, run_id in zip(cycle(there.clients), runs))
    )
    await start(there.clients[0], "people", by_people(blobs))
    labelling = [asyncio.create_task(there.label(f"person {i}", "people", i)) for i in range(PEOPLE)]
    async with asyncio.timeout(PATIENCE_S):
        ends = await asyncio.gather(*(finish(there.clients[0], run_id) for run_id in (*runs, "people")))
    for task in labelling:
        task.cancel()
    await asyncio.gather(*labelling, return_exceptions=True)
    assert {end.run.phase for end in ends} == {Phase.PHASE_FINISHED}
    assert len({end.run.latest.model_sha256 for end in ends[:-1]}) == 1, "the runs have one spec"
    assert len(there.answers) == LABELS
    assert ends[-1].run.labels_paid == LABELS, "no sample was paid for twice"
    assert not there.faults_of_ours
    assert not logs.errors()
    assert not restarts(there.services)


@pytest.mark.parametrize("which", ["leading", "another"])
async def test_a_run_stands_still_for_seconds_only_when_a_node_dies(
    there: Production, blobs: Blobs, which: str
) -> None:
    """A node that is stopped answers nothing and closes nothing, as one whose machine died."""
    logs, run_id = LogReader(there.services.values()), f"without-{which}"
    await start(there.clients[0], run_id, spec(blobs, label_budget=LABELS, auto_label_budget=LABELS))
    await reach_round(there.clients[0], run_id, 3)
    leading = await there.leading_node()
    node = leading if which == "leading" else next(each for each in there.nodes if each is not leading)
    node.send(signal.SIGSTOP)
    try:
        end = await finish(there.clients[0], run_id)
    finally:
        node.send(signal.SIGCONT)
    assert end.run.phase == Phase.PHASE_FINISHED
    assert await there.longest_pause_s(run_id) < STANDS_STILL_S
    assert not logs.errors()
    assert not restarts(there.services)
