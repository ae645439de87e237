"""The labelling page on real services; other tests use a fake oracle in their place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from labelloop.events.v1.events_pb2 import Protocol, QueueSpec
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, Phase, StartRunRequest
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.stack import Page, Stack, running
from playwright.async_api import expect

from tests.blobs import Blobs, spec, write_blobs
from tests.patience import PATIENCE_S
from tests.web.conftest import TOKEN, Door, FakeSite, eventually

QUEUE = 2


@dataclass
class RealSite:
    """A tests.web.site.Site on real services, with three classes."""

    url: str
    clients: Clients
    stack: Stack
    token: str = TOKEN
    run_id: str = "blobs"
    batch_size: int = 5
    budget: int = 10

    async def labels(self) -> dict[int, int]:
        return {record.sample_id: record.label for record in await self.clients.labels(self.run_id)}

    async def phase(self) -> Phase.ValueType:
        return (await self.clients.trainer.GetRun(GetRunRequest(run_id=self.run_id))).run.phase


@pytest.fixture
async def real(tmp_path: Path, nats_binary: Path) -> AsyncIterator[RealSite]:
    async with labelled(tmp_path, write_blobs(tmp_path)) as site:
        yield site


@asynccontextmanager
async def labelled(folder: Path, blobs: Blobs) -> AsyncIterator[RealSite]:
    """Start services, and a run of theirs that annotators label."""
    async with (
        running(folder / "store", page=Page(token=TOKEN)) as stack,
        connect(stack.endpoints) as clients,
    ):
        site = RealSite(stack.page_url.partition("/?")[0], clients, stack)
        changes = {"label_source": QUEUE, "label_budget": site.budget, "auto_label_budget": 0}
        protocol = {"protocol": Protocol.PROTOCOL_HONEST, "stopping_sample_count": 0}
        made = spec(blobs, **changes, **protocol, queue=QueueSpec())
        await clients.trainer.StartRun(StartRunRequest(run_id=site.run_id, spec=made))
        yield site


async def test_two_annotators_label_a_run_to_its_end(real: RealSite, door: Door) -> None:
    site: FakeSite = real  # type: ignore[assignment]  # has what the door needs
    ada, ben = await door.enter(site, "ada"), await door.enter(site, "ben")
    said: dict[int, int] = {}
    first = int(await ada.sample())
    await ada.press("1")
    await ada.gone(first)
    await ada.press("u")  # undo
    await ada.page.wait_for_selector(f"#frame[data-sample='{first}'] > *")
    await ada.press("2")
    await ada.gone(first)
    said[first] = 2
    await eventually(real.labels, lambda standing: standing == said)
    async with asyncio.timeout(PATIENCE_S):
        while len(said) < real.budget:
            for who, key in ((ada, "0"), (ben, "1")):
                shown = await who.page.query_selector("#frame[data-kind=sample] > *")
                if shown is None:  # the other annotator holds the rest of this round
                    await asyncio.sleep(0.05)
                    continue
                sample = int(await who.sample())
                await who.press(key)
                await who.gone(sample)
                said.setdefault(sample, int(key))  # of a sample handed over just now, the first answer stands
    await eventually(real.labels, lambda standing: standing == said)
    await eventually(real.phase, lambda phase: phase == Phase.PHASE_FINISHED)
    await expect(ada.page.locator("#progress-text")).to_have_text(f"{real.budget} of {real.budget} labels")
    assert ada.complaints == ben.complaints == []


async def test_the_page_keeps_a_label_while_the_oracle_restarts_and_continues(real: RealSite, door: Door) -> None:
    ada = await door.enter(real)  # type: ignore[arg-type]  # has what the door needs
    first = int(await ada.sample())

    async def label_meanwhile() -> None:
        process = real.stack.services["oracle"].process
        assert process is not None
        process.kill()
        await process.wait()
        await ada.press("1")
        await expect(ada.page.locator("#banner")).to_contain_text("1 answer kept")
        await expect(ada.page.locator("#banner")).to_be_hidden(timeout=PATIENCE_S * 1_000)
        await eventually(real.labels, lambda standing: standing == {first: 1})
        second = int(await ada.sample())
        await ada.press("2")
        await eventually(real.labels, lambda standing: standing == {first: 1, second: 2})

    await real.stack.while_up(label_meanwhile())
    assert real.stack.services["oracle"].restarts == 1


async def test_tabs_of_one_annotator_hold_the_same_requests_and_a_third_person_gets_some(real: RealSite) -> None:
    own = {"X-Labelloop": "1"}

    async def leased(tab: httpx.AsyncClient) -> list[str]:
        answer = await tab.post(f"/api/runs/{real.run_id}/next", json={"count": 3})
        return sorted(each["request_id"] for each in answer.json()["requests"])

    async with AsyncExitStack() as stack:
        tabs = []
        for name in ("ada", "ada", "ben", "cleo"):
            tab = await stack.enter_async_context(httpx.AsyncClient(base_url=real.url, headers=own))
            await tab.post("/login", json={"token": real.token, "name": name})
            tabs.append(tab)
        async with asyncio.timeout(PATIENCE_S):
            while not await leased(tabs[0]):  # noqa: ASYNC110  # until the run asks
                await asyncio.sleep(0.05)
        one, other = await asyncio.gather(*map(leased, tabs[:2]))
        assert one == other
        assert len(one) == 3
        ben, cleo = await leased(tabs[2]), await leased(tabs[3])
        assert len(ben) == 2
        assert set(cleo) < set(one), "of the two, ada holds more"
        assert set(await leased(tabs[1])) == set(one) - set(cleo)


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send all samples as links to a host that does not exist: the page follows them at its own address."""
    monkeypatch.setenv("LABELLOOP_HTTP_URL", "https://labels.invalid")
    monkeypatch.setenv("LABELLOOP_INLINE_BYTES_MAX", "0")


async def test_the_page_shows_images_sent_as_links(tmp_path: Path, nats_binary: Path, links: None, door: Door) -> None:
    async with labelled(tmp_path, write_blobs(tmp_path)) as site:
        ada = await door.enter(site)  # type: ignore[arg-type]  # has what the door needs
        sample = int(await ada.sample())
        picture = ada.page.locator("#frame img.pixels")
        await expect(picture).to_have_js_property("naturalWidth", 6)
        assert (await picture.get_attribute("src") or "").startswith(f"/samples/blobs/{sample}?key=")
        await ada.press("1")
        await eventually(site.labels, lambda standing: standing == {sample: 1})
        assert ada.complaints == []


async def test_the_page_shows_values_sent_as_links(tmp_path: Path, nats_binary: Path, links: None, door: Door) -> None:
    blobs = write_blobs(tmp_path)
    values = {path: np.load(path).reshape(-1, 36).astype(np.float32) / 8 for path in (blobs.samples, blobs.evaluation)}
    for path, each in values.items():
        np.save(path, each)
    async with labelled(tmp_path, blobs) as site:
        ada = await door.enter(site)  # type: ignore[arg-type]  # has what the door needs
        sample = int(await ada.sample())
        await expect(ada.page.locator("#frame .values li")).to_have_count(36)
        shown = [float(text.split()[1]) for text in await ada.page.locator("#frame .values li").all_inner_texts()]
        assert np.allclose(shown, values[blobs.samples][sample], rtol=1e-3)
        assert ada.complaints == []
