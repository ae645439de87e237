"""Accessibility of the labelling page, and its use on a phone."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.web.conftest import Door
from tests.web.site import Site
from tests.web.test_page import label_all, until

PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}
NARROW = {**PHONE, "viewport": {"width": 360, "height": 640}}
_CONTRAST_MIN = 4.5

# For each element with its own text: its colours after blending, and their contrast by WCAG 2.
_CONTRASTS = """() => {
  const parse = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = (top, ground) => top.slice(0, 3).map((each, i) => each * top[3] + ground[i] * (1 - top[3]));
  const luminance = (rgb) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((each) => linear(each / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      layers.unshift(parse(getComputedStyle(each).backgroundColor));
    }
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.closest("script, noscript, .sr, :disabled") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const behind = ground(element);
    const colour = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [luminance(over(parse(colour), behind)), luminance(behind)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push({ text: element.textContent.trim().slice(0, 40), colour, contrast });
  }
  return found;
}"""

_CONTROLS = """() => [...document.querySelectorAll("button, a, input, summary")]
  .filter((each) => each.checkVisibility() && !each.closest(".skip-link"))
  .map((each) => {
    const { width, height } = each.getBoundingClientRect();
    return { name: each.getAttribute("aria-label") || each.textContent.trim(), width, height };
  })"""


async def sideways(page: Page) -> int:
    """Return how many pixels the page is wider than its window."""
    wider: int = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return wider


async def test_taps_label_skip_and_undo_on_a_phone(site: Site, door: Door) -> None:
    ada = await door.enter(site, **PHONE)
    first = int(await ada.sample())
    await ada.page.get_by_role("button", name="8", exact=True).tap()
    await ada.gone(first)
    second = int(await ada.sample())
    await ada.page.get_by_role("button", name="Skip").tap()
    await ada.gone(second)
    await until(site, {first: 8})
    await ada.page.get_by_role("button", name="Undo").tap()
    assert int(await ada.sample()) == second
    await ada.page.get_by_role("button", name="1", exact=True).tap()
    await until(site, {first: 8, second: 1})
    assert ada.complaints == []


@pytest.mark.parametrize("screen", [PHONE, NARROW], ids=["390", "360"])
async def test_the_controls_fit_on_a_phone(site: Site, door: Door, screen: dict[str, Any]) -> None:
    ada = await door.enter(site, **screen)
    await label_all(ada, site.batch_size + 1)  # so that the prediction and the curves are shown
    await ada.sample()
    await expect(ada.page.locator("#learning circle")).to_have_count(1)
    assert await sideways(ada.page) == 0
    height = screen["viewport"]["height"]
    for name in ("9", "Skip", "Undo", "Reject"):
        box = await ada.page.get_by_role("button", name=name, exact=True).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= height, f"{name} is seen without scrolling"


async def test_touch_targets_are_at_least_44_pixels(site: Site, door: Door) -> None:
    ada = await door.enter(site, **NARROW)
    await label_all(ada, site.batch_size)
    await ada.sample()
    controls = await ada.page.evaluate(_CONTROLS)
    assert len(controls) > 12
    small = [each for each in controls if min(each["width"], each["height"]) < 44]
    assert not small, small


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_has_sufficient_contrast(site: Site, door: Door, scheme: str) -> None:
    ada = await door.enter(site, color_scheme=scheme, reduced_motion="reduce")
    await label_all(ada, site.batch_size + 1)
    await ada.sample()
    await expect(ada.page.locator("#last .chip")).to_be_visible()
    contrasts = await ada.page.evaluate(_CONTRASTS)
    assert len(contrasts) > 25
    faint = [each for each in contrasts if each["contrast"] < _CONTRAST_MIN]
    assert not faint, faint


async def test_elements_have_accessible_names_roles_and_unique_ids(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    await label_all(ada, site.batch_size + 1)
    await ada.sample()
    page = ada.page
    for role in ("banner", "main", "complementary"):
        await expect(page.get_by_role(role)).to_have_count(1)
    await expect(page.get_by_role("heading", level=1)).to_have_count(1)
    for image in await page.get_by_role("img").all():
        assert await image.get_attribute("alt") or await image.get_attribute("aria-label")
    nameless = [each for each in await page.evaluate(_CONTROLS) if not each["name"]]
    assert not nameless
    assert await page.evaluate("new Set([...document.querySelectorAll('[id]')].map((e) => e.id)).size") == (
        await page.locator("[id]").count()
    )
    assert await page.get_attribute("html", "lang") == "en"


async def test_the_keyboard_reaches_the_controls_with_visible_focus(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    await label_all(ada, 1)
    await ada.sample()
    await ada.page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(20):
        await ada.press("Tab")
        reached.append(await ada.page.evaluate("document.activeElement.textContent.trim()"))
        outline = await ada.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", reached[-1]
        if "Labels by class" in reached[-1]:
            break
    assert reached[0] == "To the image"
    assert {"U Undo", "S Skip", "X Reject", "Labels by class"} <= set(reached)


async def test_reduced_motion_is_respected(site: Site, door: Door) -> None:
    ada = await door.enter(site, reduced_motion="reduce")
    await ada.sample()
    moving = "document.getAnimations().filter((each) => each.effect.getComputedTiming().duration > 1).length"
    await ada.press("1")
    assert await ada.page.evaluate(moving) == 0


async def test_doubled_text_does_not_scroll_sideways(site: Site, door: Door) -> None:
    ada = await door.enter(site, **PHONE)
    await ada.sample()
    await ada.page.evaluate("document.documentElement.classList.add('twice')")
    await ada.page.evaluate("document.documentElement.style.fontSize = '200%'")
    assert await sideways(ada.page) == 0
