"""Texts on the labelling page: shown as text and nothing else, and labelled by the keys 1 to 9."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import expect

from tests.web.conftest import Door, FakeSite, eventually

MARKUP = "<img src=x onerror=alert(1)>\n  <b>bold</b> &lt; &amp; 😀"
LONG = "word " * 2_000 + "end"


def begin(site: FakeSite, texts: list[str], classes: tuple[str, ...] = ("spam", "ham", "other")) -> None:
    site.run_id = "texts"
    site.oracle.texts = texts
    site.oracle.start_run("texts", classes=classes)


async def test_markup_is_shown_as_text(fake_site: FakeSite, door: Door) -> None:
    begin(fake_site, [MARKUP])
    ada = await door.enter(fake_site)
    await ada.sample()
    shown = ada.page.locator("#frame .text")
    assert await shown.text_content() == MARKUP
    assert await shown.locator("*").count() == 0
    await expect(shown).to_have_css("white-space", "pre-wrap")
    assert ada.complaints == []


async def test_a_text_runs_in_its_own_direction(fake_site: FakeSite, door: Door) -> None:
    begin(fake_site, ["שלום עולם, hello"])
    ada = await door.enter(fake_site)
    await ada.sample()
    await expect(ada.page.locator("#frame .text")).to_have_css("direction", "rtl")


async def test_a_long_text_is_folded(fake_site: FakeSite, door: Door) -> None:
    begin(fake_site, [LONG])
    ada = await door.enter(fake_site)
    sample = int(await ada.sample())
    shown = ada.page.locator("#frame .text")
    assert "end" not in (await shown.text_content() or "")
    await ada.page.get_by_role("button", name="Show all 10,003 characters").click()
    assert await shown.text_content() == LONG
    await ada.press("2")
    await eventually(fake_site.labels, lambda labels: labels == {sample: 1})


async def test_a_row_of_a_table_shows_its_columns_as_text(fake_site: FakeSite, door: Door) -> None:
    fake_site.oracle.text_type = "application/json"
    row = {"height": 12.5, "colour": "<b>red</b>", "weight": None, "שם": "כן", "city": "Zürich\nWest", "__proto__": 0}
    begin(fake_site, [json.dumps(row, ensure_ascii=False)])
    ada = await door.enter(fake_site)
    sample = int(await ada.sample())
    shown = ada.page.locator("#frame .row")
    await expect(shown.locator("th")).to_have_text([*row])
    cells = [await each.text_content() for each in await shown.locator("td").all()]
    assert cells == ["12.5", "<b>red</b>", "missing", "כן", "Zürich\nWest", "0"]
    await ada.press("1")
    await eventually(fake_site.labels, lambda labels: labels == {sample: 0})
    assert ada.complaints == []


@pytest.mark.parametrize(
    ("classes", "by_key"),
    [
        (("spam", "ham", "other"), {"1": 0, "3": 2}),
        (tuple(f"c{i}" for i in range(11)), {"9": 8, "0": 9}),
        (("3", "1", "2"), {"1": 1, "3": 0}),
        (("10", "1", "none"), {"1": 1}),
    ],
)
async def test_digit_keys_choose_classes(
    fake_site: FakeSite, door: Door, classes: tuple[str, ...], by_key: dict[str, int]
) -> None:
    begin(fake_site, ["a", "b"], classes)
    ada = await door.enter(fake_site)
    expected = {}
    for key, label in by_key.items():
        sample = int(await ada.sample())
        await expect(ada.page.locator("#classes button").nth(label)).to_have_attribute("aria-keyshortcuts", key)
        await ada.press(key)
        await ada.gone(sample)
        expected[sample] = label
    await eventually(fake_site.labels, lambda labels: labels == expected)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("spam", "ham", "other"), "Keys: 1 to 3, in the order of the classes."),
        (tuple(f"c{i}" for i in range(10)), "Keys: 1 to 9, then 0, in the order of the classes."),
        (
            tuple(f"c{i}" for i in range(11)),
            "Keys: 1 to 9, then 0, in the order of the classes; / finds the others by name.",
        ),
        (tuple("0123456789"), "Keys: a digit chooses the class of that name."),
        (("7", "none"), "Keys: a digit chooses the class of that name; click or tap the others."),
    ],
)
async def test_the_page_says_which_keys_choose_classes(
    fake_site: FakeSite, door: Door, classes: tuple[str, ...], said: str
) -> None:
    begin(fake_site, ["a"], classes)
    ada = await door.enter(fake_site)
    await ada.sample()
    await expect(ada.page.locator("#keys-hint")).to_have_text(said)


async def test_a_class_that_is_a_digit_is_on_its_own_key(fake_site: FakeSite, door: Door) -> None:
    begin(fake_site, ["a"], tuple("0123456789"))
    ada = await door.enter(fake_site)
    sample = int(await ada.sample())
    await ada.press("7")
    await eventually(fake_site.labels, lambda labels: labels == {sample: 7})


async def test_a_key_without_a_class_does_nothing(fake_site: FakeSite, door: Door) -> None:
    begin(fake_site, ["a"])
    ada = await door.enter(fake_site)
    sample = await ada.sample()
    for key in "0456789":
        await ada.press(key)
    assert await ada.sample() == sample
    assert await fake_site.labels() == {}
