"""A labelling site, and annotators in a real browser."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

import pytest
from labelloop.domain.hold_ups import HoldUp
from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from pydantic import SecretStr

from oracle_svc.web.app import LEASE_S, make_app
from oracle_svc.web.server import WebServer
from oracle_svc.web.settings import WebSettings
from tests.patience import PATIENCE_S
from tests.web.fake_oracle import FakeOracle, FakeProjections
from tests.web.site import Site

T = TypeVar("T")

TOKEN = "open-sesame"
_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


async def eventually(
    look: Callable[[], Awaitable[T]], enough: Callable[[T], bool], patience_s: float = PATIENCE_S
) -> None:
    """Wait until what ``look`` returns is ``enough``."""
    async with asyncio.timeout(patience_s):
        while True:
            if enough(await look()):
                return
            await asyncio.sleep(0.05)


@dataclass
class FakeSite:
    """A ``Site`` with a fake oracle."""

    oracle: FakeOracle
    projections: FakeProjections
    url: str = ""
    token: str = TOKEN
    run_id: str = "digits"
    batch_size: int = 5
    budget: int = 15
    held_up: list[HoldUp] = field(default_factory=list)

    async def labels(self) -> dict[int, int]:
        return dict(self.projections.get(self.run_id).progress.labels)

    async def skipped(self) -> set[int]:
        return set(self.projections.get(self.run_id).progress.answers.skipped)


@pytest.fixture
def site(fake_site: FakeSite) -> Site:
    """Any site, for tests that do not depend on the fake."""
    return fake_site


@pytest.fixture
async def fake_site() -> AsyncIterator[FakeSite]:
    async with serving() as site:
        yield site


@asynccontextmanager
async def serving(lease_s: int = LEASE_S) -> AsyncIterator[FakeSite]:
    """Serve a run of three rounds of five labels."""
    projections = FakeProjections()
    site = FakeSite(FakeOracle(projections), projections)
    site.oracle.start_run(site.run_id, batch_size=site.batch_size, budget=site.budget)
    settings = WebSettings(http_port=0, http_token=SecretStr(TOKEN), drain_s=1)
    server = WebServer(
        make_app(site.oracle, projections, settings, lease_s=lease_s, held_up=lambda _: list(site.held_up)), settings
    )
    await server.start()
    site.url = f"http://127.0.0.1:{server.port}"
    yield site
    await server.stop()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    if _CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGS)
        yield browser
        await browser.close()


@dataclass
class Annotator:
    """An annotator with their own browser; ``complaints`` are the console's errors."""

    page: Page
    context: BrowserContext
    complaints: list[str] = field(default_factory=list)

    async def sample(self) -> str:
        """The id of the sample shown, once one is."""
        await self.page.wait_for_selector("#frame[data-kind=sample] > *")
        return await self.page.get_attribute("#frame", "data-sample") or ""

    async def press(self, key: str) -> None:
        await self.page.keyboard.press(key)

    async def gone(self, sample: int) -> None:
        """Wait until the sample is not shown."""
        await self.page.wait_for_selector(f"#frame:not([data-sample='{sample}'])")


class Door:
    """Opens pages for annotators."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.inside: list[Annotator] = []

    async def enter(self, site: Site, name: str = "ada", **options: Any) -> Annotator:
        """Open the run's page, signed in by a link."""
        annotator = await self.arrive(**options)
        await annotator.page.goto(f"{site.url}/runs/{site.run_id}?{urlencode({'token': site.token, 'name': name})}")
        return annotator

    async def arrive(self, **options: Any) -> Annotator:
        """Open a blank tab."""
        context = await self._browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        page = await context.new_page()
        page.set_default_timeout(15_000)
        # The first route makes Chromium intercept requests, and misses some that are made right after it.
        await page.route("**/nothing-is-here", lambda route: route.abort())
        annotator = Annotator(page, context)
        page.on("console", lambda said: annotator.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: annotator.complaints.append(str(error)))
        self.inside.append(annotator)
        return annotator


@pytest.fixture
async def door(browser: Browser) -> Door:
    return Door(browser)
