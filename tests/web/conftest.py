"""A site to label on, and a real browser."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from pydantic import SecretStr

from oracle_svc.web.app import make_app
from oracle_svc.web.server import WebServer
from oracle_svc.web.settings import WebSettings
from tests.web.fake_oracle import FakeBook, FakeOracle

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


@dataclass
class FakeSite:
    """See tests.web.site.Site."""

    oracle: FakeOracle
    book: FakeBook
    url: str = ""
    token: str = TOKEN
    run_id: str = "digits"
    batch_size: int = 5
    budget: int = 15

    async def labels(self) -> dict[int, int]:
        return dict(self.book.get(self.run_id).progress.labels)

    async def skipped(self) -> set[int]:
        return set(self.book.get(self.run_id).progress.skipped)


@pytest.fixture
async def site() -> AsyncIterator[FakeSite]:
    """A run of three rounds of five labels, before a server of its own."""
    book = FakeBook()
    site = FakeSite(FakeOracle(book), book)
    site.oracle.start_run(site.run_id, batch_size=site.batch_size, budget=site.budget)
    settings = WebSettings(http_port=0, http_token=SecretStr(TOKEN), drain_s=1)
    server = WebServer(make_app(site.oracle, book, settings), settings)
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
    """Somebody at a browser of their own; ``complaints`` are the console's errors."""

    page: Page
    context: BrowserContext
    complaints: list[str] = field(default_factory=list)

    async def sample(self) -> str:
        """The sample that is shown, once one is."""
        await self.page.wait_for_selector("#frame[data-kind=sample] > *")
        return await self.page.get_attribute("#frame", "data-sample") or ""

    async def press(self, key: str) -> None:
        await self.page.keyboard.press(key)

    async def settle(self) -> None:
        """Until nothing waits to be sent."""
        await self.page.wait_for_load_state("networkidle")


class Door:
    """Lets annotators in."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.inside: list[Annotator] = []

    async def enter(self, site: FakeSite, name: str = "ada", **context: object) -> Annotator:
        """On the run's page, signed in by a link."""
        annotator = await self.arrive(**context)
        await annotator.page.goto(f"{site.url}/runs/{site.run_id}?token={site.token}&name={name}")
        return annotator

    async def arrive(self, **options: object) -> Annotator:
        """At no page yet."""
        context = await self._browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})  # type: ignore[arg-type]
        page = await context.new_page()
        page.set_default_timeout(15_000)
        annotator = Annotator(page, context)
        page.on("console", lambda said: annotator.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: annotator.complaints.append(str(error)))
        self.inside.append(annotator)
        return annotator


@pytest.fixture
async def door(browser: Browser) -> Door:
    return Door(browser)
