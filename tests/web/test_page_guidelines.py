"""Guidelines on the labelling page."""

from __future__ import annotations

from typing import Any

import pytest
from labelloop.events.v1.events_pb2 import QueueSpec
from playwright.async_api import expect

from tests.web.conftest import Annotator, Door, FakeSite
from tests.web.test_page_access import NARROW, sideways

GUIDELINES = (
    "# What to label\n\nThe digit **as written**.\n\n- <img src=x onerror=alert(1)>\n- [more](https://x.example)"
)


def begin(site: FakeSite, guidelines: str) -> None:
    site.run_id = "guided"
    site.oracle.start_run("guided", queue=QueueSpec(guidelines=guidelines))


async def is_open(annotator: Annotator) -> bool:
    found: bool = await annotator.page.locator("#guidelines").evaluate("each => each.open")
    return found


async def test_guidelines_are_open_at_first_and_stay_closed(fake_site: FakeSite, door: Door) -> None:
    begin(fake_site, GUIDELINES)
    ada = await door.enter(fake_site)
    await ada.sample()
    shown = ada.page.locator("#guidelines .guide")
    await expect(shown.locator("h3")).to_have_text("What to label")
    await expect(shown.locator("strong")).to_have_text("as written")
    await expect(shown.get_by_role("link", name="more")).to_have_attribute("href", "https://x.example")
    await ada.press("g")
    assert not await is_open(ada)
    await ada.page.reload()
    await ada.sample()
    assert not await is_open(ada)
    await ada.page.locator("#guidelines summary").click()
    assert await is_open(ada)
    assert ada.complaints == []


async def test_guidelines_hold_no_markup_of_their_own(fake_site: FakeSite, door: Door) -> None:
    begin(fake_site, GUIDELINES)
    ada = await door.enter(fake_site)
    await ada.sample()
    assert await ada.page.locator("#guidelines img").count() == 0
    await expect(ada.page.locator("#guidelines li").first).to_have_text("<img src=x onerror=alert(1)>")
    assert ada.complaints == []


@pytest.mark.parametrize("screen", [{}, NARROW], ids=["wide", "narrow"])
async def test_long_guidelines_leave_room(fake_site: FakeSite, door: Door, screen: dict[str, Any]) -> None:
    begin(fake_site, "word " * 4_000 + "x" * 500)
    ada = await door.enter(fake_site, **screen)
    await ada.sample()
    assert await sideways(ada.page) == 0
    box = await ada.page.locator("#guidelines").bounding_box()
    assert box is not None
    assert box["height"] < 420


async def test_a_run_without_guidelines_shows_none(fake_site: FakeSite, door: Door) -> None:
    ada = await door.enter(fake_site)
    await ada.sample()
    await expect(ada.page.locator("#guidelines")).to_have_count(0)
    sample = await ada.sample()
    await ada.press("g")
    assert await ada.sample() == sample
    assert ada.complaints == []
