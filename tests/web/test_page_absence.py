"""Absent annotators hold no samples back, and cannot label samples that others received meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import expect

from tests.patience import PATIENCE_S
from tests.web.conftest import Annotator, Door, FakeSite, eventually, serving
from tests.web.test_page import label_all, until

LEASE_S = 2  # the page renews in time, and takes an annotator idle for 4 s as absent

# What the browser reports for a covered tab or a locked phone.
_HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture
async def brief_site() -> AsyncIterator[FakeSite]:
    """A site whose leases are short enough for a test."""
    async with serving(lease_s=LEASE_S) as site:
        yield site


def listen(annotator: Annotator) -> list[str]:
    """The results their page sends from now on."""
    said: list[str] = []
    annotator.page.on(
        "request", lambda sent: said.append(sent.post_data or "") if sent.url.endswith("/answers") else None
    )
    return said


async def comes_to(annotator: Annotator, sample: int) -> None:
    """Label samples until ``sample`` is shown."""
    while int(await annotator.sample()) != sample:
        await label_all(annotator, 1, "5")


async def test_lease_of_the_sample_shown_is_renewed(brief_site: FakeSite, door: Door) -> None:
    ada = await door.enter(brief_site)
    sample = await ada.sample()
    given = brief_site.oracle.leased
    await eventually(lambda: _times(given, sample), lambda times: times >= 3)
    assert await ada.sample() == sample
    await ada.press("1")
    await until(brief_site, {int(sample): 1})


async def _times(given: list[tuple[str, int]], sample: str) -> int:
    return given.count(("ada", int(sample)))


async def test_hidden_page_sends_no_result_for_others_samples(brief_site: FakeSite, door: Door) -> None:
    ada = await door.enter(brief_site)
    said = listen(ada)
    sample = int(await ada.sample())
    await ada.page.evaluate(_HIDE, True)
    await ada.gone(sample)
    bob = await door.enter(brief_site, "bob")
    await comes_to(bob, sample)
    await ada.page.evaluate(_HIDE, False)
    await ada.press("2")
    await label_all(bob, 1, "7")
    await eventually(brief_site.labels, lambda labels: labels.get(sample) == 7)
    assert await ada.page.get_attribute("#frame", "data-sample") != f"{sample}"
    assert not [each for each in said if f"/{sample}/" in each]
    assert ada.complaints == bob.complaints == []


async def test_inactive_annotator_is_asked_whether_they_are_there(brief_site: FakeSite, door: Door) -> None:
    ada = await door.enter(brief_site)
    await ada.sample()
    await expect(ada.page.locator("#frame")).to_contain_text("still there?", timeout=PATIENCE_S * 1_000)
    bob = await door.enter(brief_site, "bob")
    seen = await label_all(bob, 2, "7")
    await expect(ada.page.locator("#progress-text")).to_contain_text("2 of")
    assert await ada.page.get_attribute("#frame", "data-kind") == "empty", "what others do keeps nobody there"
    await bob.page.goto("about:blank")
    await ada.press("4")
    assert int(await ada.sample()) not in seen
    assert set((await brief_site.labels()).values()) == {7}, "a key for what was not shown says nothing"
    assert ada.complaints == []


async def test_undone_sample_of_a_hidden_page_is_given_to_others(brief_site: FakeSite, door: Door) -> None:
    ada = await door.enter(brief_site)
    (sample,) = await label_all(ada, 1)
    await until(brief_site, {sample: 3})
    await ada.press("u")
    await until(brief_site, {})
    await ada.page.evaluate(_HIDE, True)
    await ada.gone(sample)
    bob = await door.enter(brief_site, "bob")
    await comes_to(bob, sample)
    await label_all(bob, 1, "7")
    await eventually(brief_site.labels, lambda labels: labels.get(sample) == 7)
    said = listen(ada)
    await ada.page.evaluate(_HIDE, False)
    await ada.press("2")
    assert await ada.page.get_attribute("#frame", "data-sample") != f"{sample}"
    assert not [each for each in said if f"/{sample}/" in each]
    assert ada.complaints == []
