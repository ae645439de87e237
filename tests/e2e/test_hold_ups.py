"""What holds a run up is said in its status and in the backlog, whichever service or tool it concerns."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from labelloop.diagnostics.v1.diagnostics_pb2 import HoldUp
from labelloop.events.v1.events_pb2 import FeatureKind, LabelSource, Protocol, QueueSpec, RunSpec
from labelloop.oracle.v1.oracle_pb2 import Backlog, GetBacklogRequest, GetBacklogResponse
from labelloop.trainer.v1.trainer_pb2 import CancelRunRequest, GetRunRequest, Phase, RunStatus
from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.local.stack import Service

from tests.blobs import spec, write_blobs
from tests.e2e.driving import finish, start
from tests.integration.watched import samples, service, value
from tests.patience import PATIENCE_S
from tests.ports import free_port
from tests.queues.webhook_tool import WebhookTool

RUN = "r"
AWAY_S = 5.0


@dataclass
class Up:
    """A trainer, a scorer and oracles, as processes; ``clients`` and ``others`` are those of each oracle."""

    oracles: list[Service]
    clients: Clients
    others: list[Clients]

    async def status(self) -> RunStatus:
        return (await self.clients.trainer.GetRun(GetRunRequest(run_id=RUN), wait_for_ready=True)).run

    async def held_up(self) -> list[HoldUp]:
        return list((await self.status()).held_up)

    async def until_held_up(self, holds: Callable[[list[HoldUp]], bool]) -> RunStatus:
        """Return the run's status once ``holds`` is true of what holds it up."""
        seen: RunStatus | None = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    seen = await self.status()
                    if holds([each for each in seen.held_up if not each.at_work]):
                        return seen
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise AssertionError(f"the run's status stays {seen}") from error


async def backlog(clients: Clients) -> GetBacklogResponse:
    return await clients.oracle.GetBacklog(GetBacklogRequest())


async def own_backlog(clients: Clients) -> Backlog:
    [found] = [run for run in (await backlog(clients)).runs if run.run_id == RUN]
    return found


async def until_backlog(clients: Clients, holds: Callable[[GetBacklogResponse], bool]) -> GetBacklogResponse:
    """Return the backlog once ``holds`` is true of it."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds(found := await backlog(clients)):  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.1)
    return found


@asynccontextmanager
async def up(
    folder: Path,
    broker: NatsServer,
    oracles: list[Mapping[str, str]],
    scorer_store: str = "jetstream:",
    **shared: str,
) -> AsyncIterator[Up]:
    """Start the services; ``oracles`` has the environment of each oracle."""
    common = {"LABELLOOP_NATS_URL": broker.url, **shared}
    async with AsyncExitStack() as stack:

        async def started(name: str, number: int = 0, **more: str) -> Service:
            place = folder / f"{name}-{number}"
            place.mkdir()
            made = service(name, place, {**common, "LABELLOOP_CACHE_DIR": str(place / "cache"), **more})
            stack.push_async_callback(made.stop)
            await made.start()
            return made

        scorer = await started("scorer", LABELLOOP_ARTIFACTS_URL=scorer_store)
        made = [await started("oracle", number, **more) for number, more in enumerate(oracles)]
        trainer = await started("trainer", LABELLOOP_SCORER=scorer.address, LABELLOOP_ORACLE=made[0].address)
        clients = [
            await stack.enter_async_context(
                connect(Endpoints(trainer=trainer.address, scorer=scorer.address, oracle=each.address))
            )
            for each in made
        ]
        yield Up(made, clients[0], clients)


async def until_shown(oracles: list[Service], **labels: str) -> None:
    """Wait until the metric of an oracle says that a tool is away; it is the one that tries just now."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if any(value(samples(each), "labelloop_tool_away", **labels) for each in oracles):
                return
            await asyncio.sleep(0.05)


def asking_people(folder: Path, tool: str = "webhook") -> RunSpec:
    return spec(
        write_blobs(folder),
        label_source=LabelSource.LABEL_SOURCE_QUEUE,
        label_budget=6,
        batch_size=6,
        auto_label_budget=0,
        stopping_sample_count=0,
        protocol=Protocol.PROTOCOL_HONEST,
        queue=QueueSpec(tool=tool),
    )


def webhook_at(port: int, tool: WebhookTool) -> dict[str, str]:
    return {
        "LABELLOOP_WEBHOOK_URL": f"http://127.0.0.1:{port}/hook",
        "LABELLOOP_WEBHOOK_SECRET": tool.secret,
        "LABELLOOP_HTTP_PORT": "0",
        "LABELLOOP_HTTP_TOKEN": "a-token-for-the-page",
    }


async def test_a_webhook_that_refuses_connections_is_said_everywhere_until_it_recovers(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    tool, port = WebhookTool(), free_port()
    tool._port = port
    async with up(tmp_path, nats_server, [webhook_at(port, tool)] * 2) as it:
        began = datetime.now(UTC)
        await start(it.clients, RUN, asking_people(tmp_path))
        status = await it.until_held_up(lambda found: any(each.tool == "webhook" for each in found))
        [away] = status.held_up
        assert (away.service, away.direction) == ("oracle", "requests")
        assert "no connection to its receiver" in away.problem
        assert began - timedelta(seconds=1) <= away.since.ToDatetime(UTC) <= datetime.now(UTC)
        assert status.phase == Phase.PHASE_LABELLING
        assert status.message.startswith("oracle: webhook is away (requests): no connection to its receiver")
        for clients in it.others:  # whichever oracle it was that tried
            found = await until_backlog(clients, lambda found: bool(found.tools_away))
            assert [(each.tool, each.direction) for each in found.tools_away] == [("webhook", "requests")]
            assert [each.tool for each in found.runs[0].held_up] == ["webhook"]
        await until_shown(it.oracles, tool="webhook", direction="requests")
        assert value(samples(it.oracles[0]), "labelloop_tool_away", tool="nats") == 0
        await tool.come_back()
        try:
            await it.until_held_up(lambda found: not found)
            for clients in it.others:
                await until_backlog(clients, lambda found: not found.tools_away)
            assert (await it.status()).message == ""
            assert len(await tool.requests()) == 6
        finally:
            await tool.go_down()


async def test_what_an_oracle_knew_of_a_tool_ends_some_seconds_after_it_was_killed(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    tool, port = WebhookTool(), free_port()
    async with up(tmp_path, nats_server, [webhook_at(port, tool), {}]) as it:
        await start(it.clients, RUN, asking_people(tmp_path))
        await it.until_held_up(lambda found: [each.tool for each in found] == ["webhook"])
        other = it.others[1]
        await until_backlog(other, lambda found: bool(found.tools_away))
        process = it.oracles[0].process
        assert process
        process.send_signal(signal.SIGKILL)
        await until_backlog(other, lambda found: not found.tools_away)
        await it.until_held_up(lambda found: not found)


class Store:
    """A file:// store that can be taken away: a file is where its folder was."""

    def __init__(self, folder: Path) -> None:
        self._link, self._folder = folder / "store", folder / "kept"
        self._folder.mkdir()
        self._link.symlink_to(self._folder)
        self.url = f"file://{self._link}"

    def take_away(self) -> None:
        self._link.unlink()
        self._link.write_text("no folder")

    def bring_back(self) -> None:
        self._link.unlink()
        self._link.symlink_to(self._folder)


async def test_a_store_that_the_oracle_lacks_is_said_until_it_is_back(nats_server: NatsServer, tmp_path: Path) -> None:
    store = Store(tmp_path)
    async with up(tmp_path, nats_server, [{}], store.url, LABELLOOP_ARTIFACTS_URL=store.url) as it:
        store.take_away()
        await start(it.clients, RUN, asking_people(tmp_path, tool=""))
        status = await it.until_held_up(lambda found: bool(found))
        [held_up] = [each for each in status.held_up if not each.at_work]
        assert (held_up.service, held_up.tool) == ("oracle", "")
        assert "store" in held_up.problem
        assert status.message == f"oracle: {held_up.problem}"
        assert status.phase == Phase.PHASE_PUBLISHING
        shown = await own_backlog(it.clients)
        assert [each.problem for each in shown.held_up if not each.at_work] == [held_up.problem]
        assert shown.progress == "the pool is being read and stored"
        assert value(samples(it.oracles[0]), "labelloop_run_held_up_seconds", run=RUN) >= 0
        store.bring_back()
        status = await it.until_held_up(lambda found: not found)
        await until_backlog(it.clients, lambda found: found.runs[0].open > 0)
        assert not (await own_backlog(it.clients)).progress


@pytest.mark.parametrize(
    "features",
    [FeatureKind.FEATURE_KIND_PATCHES, FeatureKind.FEATURE_KIND_UNSPECIFIED],
    ids=["learned", "pixels"],
)
async def test_a_store_that_the_scorer_lacks_is_said_until_it_is_back(
    nats_server: NatsServer, tmp_path: Path, features: FeatureKind.ValueType
) -> None:
    store = Store(tmp_path)
    oracles: list[Mapping[str, str]] = [{}]
    kept = f"file://{tmp_path / 'kept'}"
    async with up(tmp_path, nats_server, oracles, store.url, LABELLOOP_ARTIFACTS_URL=kept) as it:
        store.take_away()
        wanted = asking_people(tmp_path, tool="")
        wanted.features = features
        await start(it.clients, RUN, wanted)
        status = await it.until_held_up(lambda found: bool(found))
        [held_up] = [each for each in status.held_up if not each.at_work]
        assert held_up.service == "trainer", "it hears from the scorer itself, whatever it asks it for"
        assert "store" in held_up.problem
        assert status.phase == Phase.PHASE_WORKING
        heard = await until_backlog(it.clients, lambda found: bool(found.runs[0].held_up))  # for its page
        shown = heard.runs[0]
        assert shown.held_up[0].service == "trainer"
        assert shown.progress == (
            "features are being learned from the pool" if features else "the first samples are being chosen"
        )
        store.bring_back()
        await it.until_held_up(lambda found: not found)
        await until_backlog(it.clients, lambda found: found.runs[0].open > 0)
        await it.clients.trainer.CancelRun(CancelRunRequest(run_id=RUN))
        assert not (await finish(it.clients, RUN)).run.held_up
