"""The labelling page in a real browser, used by keyboard and mouse."""

from __future__ import annotations

import asyncio
import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from labelloop.domain.hold_ups import HoldUp
from labelloop.errors import InvalidInput, LabelloopError, LimitExceeded, Unready
from labelloop.events.v1.events_pb2 import Event, LabelSource, QueueSpec, RunSpec, RunStarted
from playwright.async_api import Route, expect

from tests.patience import PATIENCE_S
from tests.web.conftest import Annotator, Door, FakeSite, eventually
from tests.web.site import Site


async def relabel_after_undo(annotator: Annotator, site: Site, first: int, second: int) -> None:
    """Undo the first of two labels after the second was undone, and label both anew."""
    assert int(await annotator.sample()) == second
    await until(site, {first: 3})
    await annotator.press("u")
    assert int(await annotator.sample()) == first
    await until(site, {})
    await annotator.press("5")
    await annotator.press("6")
    await until(site, {first: 5, second: 6})
    assert annotator.complaints == []


async def label_all(annotator: Annotator, count: int, key: str = "3") -> list[int]:
    """Label the next ``count`` samples, and return their ids."""
    seen = []
    for _ in range(count):
        seen.append(int(await annotator.sample()))
        await annotator.press(key)
        await annotator.gone(seen[-1])
    return seen


_NAMES_OF_CURVES = """async ([mean, least]) => {
  const { confidenceChart } = await import("/static/charts.js");
  const svg = confidenceChart([{ labels: 5, mean, least }, { labels: 9, mean, least }]);
  document.getElementById("confidence").replaceChildren(svg);
  const edge = svg.getBoundingClientRect();
  const boxes = [...svg.querySelectorAll(".said")].map((each) => each.getBoundingClientRect());
  const outside = boxes.filter((box) => box.top < edge.top || box.bottom > edge.bottom || box.right > edge.right);
  const [upper, lower] = boxes.sort((a, b) => a.top - b.top);
  return { outside: outside.length, overlapping: upper.bottom > lower.top + 4 };
}"""


async def until(site: Site, labels: dict[int, int]) -> None:
    """Wait until exactly these labels are recorded."""
    await eventually(site.labels, lambda standing: standing == labels)


async def test_number_keys_label_samples(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    seen = {}
    for key in "704":
        sample = int(await ada.sample())
        await ada.press(key)
        await ada.gone(sample)
        seen[sample] = int(key)
    await until(site, seen)
    assert len(seen) == 3
    await expect(ada.page.locator("#progress-text")).to_have_text(f"3 of {site.budget} labels")
    await expect(ada.page.locator("#done b")).to_have_text(["7", "0", "4"])
    await expect(ada.page.locator("#announcer")).to_contain_text("Labelled 4")
    assert ada.complaints == []


async def test_buttons_label_samples(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    sample = int(await ada.sample())
    await ada.page.get_by_role("button", name="8", exact=True).click()
    await until(site, {sample: 8})


async def test_next_images_are_preloaded(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    await ada.sample()
    await expect(ada.page.locator("#next img")).to_have_count(3)
    await ada.context.set_offline(True)
    ahead = [await each.get_attribute("alt") for each in await ada.page.locator("#next img").all()]
    for alt in ahead:
        await ada.press("1")
        assert await ada.page.locator("#frame img").get_attribute("alt") == alt, "at once, without the network"


async def test_small_images_are_enlarged_without_blurring(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    await ada.sample()
    image = ada.page.locator("#frame img.pixels")
    await expect(image).to_have_css("image-rendering", "pixelated")
    box = await image.bounding_box()
    assert box is not None
    assert box["width"] >= 360, "28 pixels, large"


async def test_undone_samples_can_be_relabelled(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    first, second = await label_all(ada, 2)
    await until(site, {first: 3, second: 3})
    await ada.press("u")
    await relabel_after_undo(ada, site, first, second)


async def test_undone_sample_can_be_labelled_after_a_reload(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    (first,) = await label_all(ada, 1)
    await until(site, {first: 3})
    await ada.press("u")
    await until(site, {})
    await ada.page.reload()
    shown = -1
    while shown != first:
        shown = int(await ada.sample())
        await ada.press("9")
        await ada.gone(shown)
    await eventually(site.labels, lambda standing: standing.get(first) == 9)


async def test_undo_takes_back_a_skip(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    sample = int(await ada.sample())
    await ada.press("s")
    await ada.gone(sample)
    await eventually(site.skipped, lambda skipped: skipped == {sample})
    await ada.press("Backspace")
    assert int(await ada.sample()) == sample
    await ada.press("2")
    await until(site, {sample: 2})
    assert await site.skipped() == set()


async def test_skip_and_reject_give_no_label(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    seen = set()
    for key in "sx":
        sample = int(await ada.sample())
        await ada.press(key)
        await ada.gone(sample)
        seen.add(sample)
    await eventually(site.skipped, lambda skipped: skipped == seen)
    assert await site.labels() == {}
    await expect(ada.page.locator("#done b")).to_have_text(["skip", "reject"])


async def test_key_held_down_labels_once(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    sample = int(await ada.sample())
    for _ in range(4):
        await ada.page.keyboard.down("1")  # the second and later ones repeat
    await ada.page.keyboard.up("1")
    await expect(ada.page.locator("#done li")).to_have_count(1)
    await until(site, {sample: 1})


async def test_keys_with_a_modifier_are_left_to_the_browser(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    sample = await ada.sample()
    await ada.press("Control+1")
    await ada.press("Alt+2")
    assert await ada.sample() == sample
    await expect(ada.page.locator("#done li")).to_have_count(0)


async def test_hidden_prediction_stays_hidden_after_a_reload(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    await ada.sample()
    await expect(ada.page.locator("#opinion-toggle")).to_be_hidden()
    await label_all(ada, site.batch_size)
    await ada.sample()
    prediction = ada.page.locator("#opinion-text")
    await expect(prediction).to_contain_text(re.compile(r"model says \d.*%"))
    await ada.press("p")
    await expect(prediction).to_have_text("")
    await ada.page.reload()
    await ada.sample()
    await expect(prediction).to_have_text("")
    await ada.page.get_by_role("button", name="Show prediction").click()
    await expect(prediction).to_contain_text("model says")


async def test_learning_curve_grows_with_each_round(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    await label_all(ada, site.batch_size)
    dots = ada.page.locator("#learning circle")
    await expect(dots).to_have_count(1, timeout=PATIENCE_S * 1000)
    await expect(ada.page.locator("#learning svg")).to_have_attribute(
        "aria-label",
        re.compile(
            rf"Accuracy by labels: With {site.batch_size} labels: accuracy \(evaluation set, n = [\d,]+\) [\d.]+ %"
        ),
    )
    await expect(ada.page.locator("#confidence rect")).to_have_count(site.batch_size)
    await label_all(ada, site.batch_size)
    await expect(dots).to_have_count(2, timeout=PATIENCE_S * 1000)
    await expect(ada.page.locator("#last .change")).to_contain_text(
        re.compile(r"Round 2: accuracy \(evaluation set, n = [\d,]+\) .* → ")
    )
    await label_all(ada, 1)
    await expect(ada.page.locator("#last")).to_contain_text("3 by ada")
    await expect(ada.page.locator("#last")).to_contain_text(re.compile("agreed|differed"))
    assert ada.complaints == []


async def test_page_shows_the_end_of_the_run(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    await label_all(ada, site.budget)
    await expect(ada.page.locator("#frame")).to_contain_text("All done", timeout=PATIENCE_S * 1000)
    await expect(ada.page.locator("#frame")).to_contain_text(f"with {site.budget} labels")
    await expect(ada.page.get_by_role("button", name="3", exact=True)).to_be_disabled()
    assert ada.complaints == []


async def test_finished_run_allows_no_undo_and_needs_no_connection(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    await label_all(ada, site.budget)
    await expect(ada.page.locator("#frame")).to_contain_text("All done", timeout=PATIENCE_S * 1000)
    await expect(ada.page.get_by_role("button", name="Undo")).to_be_disabled()
    await ada.press("u")
    await expect(ada.page.locator("#frame")).to_contain_text("All done")
    await ada.context.set_offline(True)
    await ada.page.wait_for_function("!navigator.onLine")
    await expect(ada.page.locator("#link")).to_have_attribute("data-state", "over")
    await expect(ada.page.locator("#banner")).to_be_hidden()
    assert len(await site.labels()) == site.budget


async def test_annotators_never_share_a_sample(site: Site, door: Door) -> None:
    ada, bob = await door.enter(site, "ada"), await door.enter(site, "bob")

    async def label_what_comes(annotator: Annotator) -> list[int]:
        seen: list[int] = []
        while not await annotator.page.locator("#frame", has_text="All done").count():
            if shown := await annotator.page.get_attribute("#frame", "data-sample"):
                seen.append(int(shown))
                await annotator.press("4")
            else:
                await asyncio.sleep(0.05)
        return seen

    async with asyncio.timeout(PATIENCE_S):
        by_ada, by_bob = await asyncio.gather(label_what_comes(ada), label_what_comes(bob))
    assert by_ada
    assert by_bob
    assert not set(by_ada) & set(by_bob)
    assert len(by_ada) + len(by_bob) == len(await site.labels()) == site.budget
    assert ada.complaints == bob.complaints == []


async def test_samples_of_a_departed_annotator_go_to_others(site: Site, door: Door) -> None:
    ada, bob = await door.enter(site, "ada"), await door.enter(site, "bob")
    sample = await ada.sample()
    await ada.page.goto("about:blank")
    await bob.page.reload()
    seen = []
    for _ in range(site.batch_size):
        seen.append(await bob.sample())
        await bob.press("1")
        await bob.gone(int(seen[-1]))
    assert sample in seen


async def test_labels_of_others_appear_live(site: Site, door: Door) -> None:
    ada, bob = await door.enter(site, "ada"), await door.enter(site, "bob")
    await ada.sample()
    await label_all(bob, 1, "6")
    await expect(ada.page.locator("#progress-text")).to_have_text(f"1 of {site.budget} labels")
    await expect(ada.page.locator("#last")).to_contain_text("6 by bob")


async def test_result_survives_a_lost_connection(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    sample = int(await ada.sample())
    await ada.context.set_offline(True)
    await ada.press("2")
    banner = ada.page.locator("#banner")
    await expect(banner).to_contain_text("No connection")
    await expect(banner).to_contain_text("1 answer kept")
    assert await site.labels() == {}
    await ada.context.set_offline(False)
    await until(site, {sample: 2})
    await expect(banner).to_be_hidden()
    await expect(ada.page.locator("#link")).to_have_attribute("data-state", "live")


async def test_result_survives_a_reload(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    sample = int(await ada.sample())
    await ada.page.route("**/answers", lambda route: route.abort())
    await ada.press("2")
    await expect(ada.page.locator("#banner")).to_contain_text("1 answer kept")
    await ada.page.unroute("**/answers")
    await ada.page.reload()
    await until(site, {sample: 2})


async def test_result_whose_response_is_lost_is_counted_once(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    sample = int(await ada.sample())
    sent: list[Any] = []

    async def lose_the_receipt(route: Route) -> None:
        sent.append(route.request.post_data_json)
        if len(sent) > 1:
            await route.continue_()
            return
        await route.fetch()
        await route.abort()

    await ada.page.route("**/answers", lose_the_receipt)
    await ada.press("2")
    await expect(ada.page.locator("#banner")).to_contain_text("1 answer kept")
    await expect(ada.page.locator("#banner")).to_be_hidden(timeout=PATIENCE_S * 1000)
    await until(site, {sample: 2})
    first, second = sent
    assert first == second, "the same revision"
    await expect(ada.page.locator("#toast")).to_be_hidden()


async def test_result_is_resent_to_an_unready_oracle(fake_site: FakeSite, door: Door) -> None:
    ada = await door.enter(fake_site)
    sample = int(await ada.sample())
    fake_site.oracle.failure = Unready("BROKER_AWAY", "the broker is away", retry_after_s=1)
    await ada.press("7")
    await until(fake_site, {sample: 7})


@pytest.mark.parametrize("kind", [InvalidInput, LimitExceeded])
async def test_refused_result_shows_the_reason(fake_site: FakeSite, door: Door, kind: type[LabelloopError]) -> None:
    ada = await door.enter(fake_site)
    sample = int(await ada.sample())
    fake_site.oracle.failure = kind("SOME_REASON", "that sample is not asked for any more")
    await ada.press("7")
    await expect(ada.page.locator("#toast")).to_have_text("that sample is not asked for any more")
    await expect(ada.page.locator("#done li")).to_have_count(0)
    assert sample not in await fake_site.labels()


async def test_undo_skips_samples_that_others_labelled_first(fake_site: FakeSite, door: Door) -> None:
    ada = await door.enter(fake_site)
    (mine,) = await label_all(ada, 1)
    await until(fake_site, {mine: 3})
    sample = int(await ada.sample())
    await fake_site.oracle.answer(f"{fake_site.run_id}/0/{sample}/0", "bob", 8)
    await ada.press("2")
    await expect(ada.page.locator("#toast")).to_contain_text("Somebody else")
    await expect(ada.page.locator("#done b")).to_have_text(["3"])
    await ada.press("u")
    assert int(await ada.sample()) == mine
    await until(fake_site, {sample: 8})
    assert ada.complaints == []


async def test_delayed_results_do_not_replace_others_labels(fake_site: FakeSite, door: Door) -> None:
    """Neither the delayed withdrawal nor the label after it replaces bob's label."""
    ada = await door.enter(fake_site)
    sample = int(await ada.sample())
    await fake_site.oracle.answer(f"{fake_site.run_id}/0/{sample}/0", "bob", 8)
    said = asyncio.Event()

    async def hold_up(route: Route) -> None:
        await said.wait()
        await route.continue_()

    await ada.page.route("**/answers", hold_up)
    for key in "2u4":
        await ada.press(key)
    await expect(ada.page.locator("#done b")).to_have_text(["4"])
    said.set()
    await expect(ada.page.locator("#toast")).to_contain_text("Somebody else")
    await expect(ada.page.locator("#done li")).to_have_count(0)
    (other,) = await label_all(ada, 1)
    await until(fake_site, {sample: 8, other: 3})
    assert ada.complaints == []


async def test_results_survive_being_signed_out(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    sample = int(await ada.sample())
    await ada.context.clear_cookies()
    await ada.press("7")
    await expect(ada.page.locator("#banner")).to_contain_text("signed out")
    await ada.page.get_by_role("link", name="Sign in again").click()
    await ada.page.get_by_label("Your name").fill("ada")
    await ada.page.get_by_label("Token").fill(site.token)
    await expect(ada.page.get_by_role("button", name="Start labelling")).to_be_enabled()
    await ada.press("Enter")
    await until(site, {sample: 7})


async def test_the_token_is_not_sent_before_the_script_of_the_sign_in_page_runs(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    await ada.context.clear_cookies()
    held = asyncio.Event()

    async def hold(route: Route) -> None:
        await held.wait()
        await route.continue_()

    await ada.page.route("**/login.js", hold)
    await ada.page.goto(f"{site.url}/login?next=/runs/{site.run_id}", wait_until="commit")
    await ada.page.get_by_label("Your name").fill("ada")
    await ada.page.get_by_label("Token").fill(site.token)
    await ada.press("Enter")
    await expect(ada.page.get_by_label("Token")).to_have_value(site.token)
    assert site.token not in ada.page.url
    held.set()
    await ada.page.get_by_role("button", name="Start labelling").click()
    await ada.page.wait_for_url(f"{site.url}/runs/{site.run_id}")


PROXY = {
    "a refusal in JSON": {"status": 403, "json": {"error": "expired"}},
    "a page of its own": {"status": 401, "content_type": "text/html", "body": "<h1>Sign in</h1>"},
    "a page in place of the answer": {"status": 200, "content_type": "text/html", "body": "<h1>Sign in</h1>"},
    "the way to another page": {"status": 302, "headers": {"Location": "https://sign-in.invalid/"}},
}


@pytest.mark.parametrize("answer", PROXY.values(), ids=PROXY)
async def test_results_are_kept_while_a_proxy_requires_sign_in(site: Site, door: Door, answer: dict[str, Any]) -> None:
    ada = await door.enter(site)
    sample = int(await ada.sample())
    await ada.page.route("**/api/**", lambda route: route.fulfill(**answer))
    await ada.press("7")
    banner = ada.page.locator("#banner")
    await expect(banner).to_contain_text("wants you to sign in")
    await expect(banner).to_contain_text("1 answer kept")
    await ada.page.unroute("**/api/**")  # ada has signed in, and comes back
    await banner.get_by_role("link", name="Sign in again").click()
    await until(site, {sample: 7})
    await expect(banner).to_be_hidden()


async def test_result_is_resent_after_a_proxy_failure(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    sample = int(await ada.sample())
    await ada.page.route("**/answers", lambda route: route.fulfill(status=404, body="no upstream"))
    await ada.press("7")
    await expect(ada.page.locator("#banner")).to_contain_text("No connection")
    await ada.page.unroute("**/answers")
    await until(site, {sample: 7})


async def test_watching_page_shows_that_a_proxy_requires_sign_in(fake_site: FakeSite, door: Door) -> None:
    fake_site.run_id = "watched"
    fake_site.oracle.start_run("watched", queue=QueueSpec(tool="label-studio"))
    ada = await door.enter(fake_site)
    await expect(ada.page.locator("#progress-text")).to_contain_text("0 of")
    await ada.page.route("**/api/**", lambda route: route.fulfill(**PROXY["a refusal in JSON"]))
    await ada.page.evaluate("window.dispatchEvent(new Event('online'))")  # opens the stream again
    await expect(ada.page.locator("#banner")).to_contain_text("wants you to sign in")
    await ada.page.unroute("**/api/**")
    await expect(ada.page.locator("#banner")).to_be_hidden()


async def test_sign_in_needs_the_right_token(site: Site, door: Door) -> None:
    ada = await door.arrive()
    await ada.page.goto(site.url)
    await ada.page.get_by_label("Your name").fill("ada")
    await ada.page.get_by_label("Token").fill("guess")
    await expect(ada.page.get_by_role("button", name="Start labelling")).to_be_enabled()
    await ada.press("Enter")
    await expect(ada.page.get_by_role("alert")).to_contain_text("not the token")
    await ada.page.get_by_label("Token").fill(site.token)
    await ada.page.get_by_role("button", name="Start labelling").click()
    await ada.sample()
    assert ada.page.url == f"{site.url}/runs/{site.run_id}"
    await ada.page.get_by_role("button", name="Sign out").click()
    await ada.page.get_by_label("Token").wait_for()


async def test_link_on_another_site_keeps_the_sign_in(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    await ada.sample()
    elsewhere = site.url.replace("127.0.0.1", "localhost")  # another site to the browser
    await ada.page.goto(f"{elsewhere}/healthz")
    await ada.page.evaluate(f"location.href = '{site.url}/runs/{site.run_id}'")
    await ada.sample()


async def test_link_without_a_name_on_another_site_asks_for_the_name_alone(site: Site, door: Door) -> None:
    ada = await door.arrive()
    elsewhere = site.url.replace("127.0.0.1", "localhost")  # another site to the browser: no cookie comes along
    await ada.page.goto(f"{elsewhere}/healthz")
    await ada.page.evaluate(f"location.href = '{site.url}/runs/{site.run_id}?token={site.token}'")
    await expect(ada.page.get_by_label("Token")).to_have_count(0)
    await ada.page.get_by_label("Your name").fill("ada")
    await ada.page.get_by_role("button", name="Start labelling").click()
    await ada.sample()
    assert ada.page.url == f"{site.url}/runs/{site.run_id}"


async def test_another_site_cannot_submit_results(fake_site: FakeSite, door: Door) -> None:
    ada = await door.enter(fake_site)
    await ada.sample()
    request_id = fake_site.oracle.request_ids()[0]
    leased = {*fake_site.oracle.leased}
    elsewhere = fake_site.url.replace("127.0.0.1", "localhost")
    await ada.page.goto(f"{elsewhere}/healthz")
    body = f'{{"results": [{{"request_id": "{request_id}", "label": 1}}]}}'
    for headers in ({}, {"Content-Type": "application/json", "X-Labelloop": "1"}):
        refused = await ada.page.evaluate(
            """async ([url, body, headers]) => {
                try { return (await fetch(url, {method: "POST", body, headers, credentials: "include"})).status }
                catch (error) { return String(error) }
            }""",
            [f"{fake_site.url}/api/runs/{fake_site.run_id}/answers", body, headers],
        )
        assert "TypeError" in str(refused), "the browser keeps the answer from the other site"
    assert await fake_site.labels() == {}
    assert {*fake_site.oracle.leased} == leased, "no more than what the page itself renews"


async def test_classes_can_be_found_by_name(fake_site: FakeSite, door: Door) -> None:
    fake_site.run_id = "many"
    classes = tuple(
        f"{colour} {thing}" for colour in ("red", "green", "blue") for thing in ("cup", "fork", "bowl", "pan")
    )
    fake_site.oracle.start_run("many", classes=classes)
    ada = await door.enter(fake_site)
    sample = int(await ada.sample())
    await ada.press("/")
    await ada.page.keyboard.type("blue f")
    await expect(ada.page.locator("#classes button:visible")).to_have_count(1)
    await ada.press("Enter")
    await until(fake_site, {sample: classes.index("blue fork")})
    await ada.press("Escape")
    await ada.gone(sample)
    second = int(await ada.sample())
    await ada.press("3")
    await until(fake_site, {sample: classes.index("blue fork"), second: 2})


async def test_arrays_and_linked_samples_are_shown(site: Site, door: Door) -> None:
    array = io.BytesIO()
    np.save(array, np.array([0.5, -2.0, 1 / 3], np.float32))
    odd = [
        {"media_type": "application/x-npy", "content": base64.b64encode(array.getvalue()).decode()},
        {"media_type": "image/png", "content": "", "uri": "https://samples.example/1.png"},
        {"media_type": "image/png", "content": "", "uri": "s3://samples/1.png"},
    ]

    async def change(route: Route) -> None:
        response = await route.fetch()
        told = await response.json()
        changed = [{**request, **other} for request, other in zip(told["requests"], odd, strict=False)]
        await route.fulfill(response=response, json={"requests": changed})

    ada = await door.arrive()
    await ada.page.route("**/next", change)
    await ada.page.goto(f"{site.url}/runs/{site.run_id}?token={site.token}&name=ada")
    first = int(await ada.sample())
    await expect(ada.page.locator("#frame li")).to_have_text(["0 0.5", "1 -2", "2 0.3333"])
    await ada.press("1")
    await ada.gone(first)
    await expect(ada.page.get_by_role("link", name="new window")).to_have_attribute("href", odd[1]["uri"])
    await ada.press("1")
    await expect(ada.page.locator("#frame")).to_contain_text("It lies at s3://samples/1.png")
    assert ada.complaints == []


async def test_hidden_predictions_are_not_shown(fake_site: FakeSite, door: Door) -> None:
    fake_site.run_id = "blind"
    fake_site.oracle.start_run("blind", batch_size=3, queue=QueueSpec(hide_predictions=True))
    ada = await door.enter(fake_site)
    await label_all(ada, 3)
    await label_all(ada, 1)
    await expect(ada.page.locator("#progress-text")).to_contain_text("4 of")
    await expect(ada.page.locator("#last")).to_contain_text("3 by ada")
    await expect(ada.page.locator("#learning circle")).to_have_count(1)
    await expect(ada.page.locator("#opinion-toggle")).to_be_hidden()
    shown = await ada.page.inner_text("body")
    assert "model said" not in shown
    assert "agree" not in shown
    await expect(ada.page.locator("#confidence rect")).to_have_count(0)


async def test_names_of_curves_lie_within_the_drawing(fake_site: FakeSite, door: Door) -> None:
    ada = await door.enter(fake_site)
    await ada.sample()
    for mean, least in ((1.0, 1.0), (1.0, 0.99), (0.0, 0.0), (0.5, 0.5), (0.9, 0.1)):
        overlap = await ada.page.evaluate(_NAMES_OF_CURVES, [mean, least])
        assert overlap == {"outside": 0, "overlapping": False}, (mean, least)


async def test_guessing_stands_beside_accuracies_on_imbalanced_classes(fake_site: FakeSite, door: Door) -> None:
    fake_site.run_id, fake_site.oracle.most_frequent = "uneven", 300
    fake_site.oracle.start_run("uneven", batch_size=2, budget=4)
    ada = await door.enter(fake_site)
    await label_all(ada, 2)
    beside = "(75 % by guessing the most frequent class)"
    await expect(ada.page.locator("#learning")).to_contain_text(f"% {beside}, 95 % interval ")
    await label_all(ada, 2)
    await expect(ada.page.locator("#last .change")).to_contain_text(f"% {beside}")
    await expect(ada.page.locator("#frame")).to_contain_text(
        re.compile(rf"At the end, with 4 labels: accuracy \(evaluation set, n = 400\) \d+ % {re.escape(beside)}")
    )
    assert ada.complaints == []


async def test_run_labelled_in_a_tool_can_be_watched(fake_site: FakeSite, door: Door) -> None:
    fake_site.run_id = "watched"
    fake_site.oracle.start_run("watched", queue=QueueSpec(tool="label-studio"))
    ada = await door.enter(fake_site)
    await expect(ada.page.locator("#frame")).to_contain_text("Labelled in label-studio")
    await expect(ada.page.locator("#progress-text")).to_contain_text("0 of")
    assert not fake_site.oracle.leased


async def test_what_holds_a_run_up_is_shown_where_samples_would_be(fake_site: FakeSite, door: Door) -> None:
    fake_site.run_id = "watched"
    fake_site.oracle.start_run("watched", queue=QueueSpec(tool="webhook"))
    away = HoldUp("oracle", "the receiver refuses <b>connections</b>", 5.0, tool="webhook", direction="requests")
    fake_site.held_up.append(away)
    ada = await door.enter(fake_site, timezone_id="Europe/Berlin")
    frame = ada.page.locator("#frame")
    await expect(frame).to_contain_text(
        "Since 1 Jan 1970, 01:00 CET, webhook is away: the receiver refuses <b>connections</b>."
    )
    fake_site.held_up.clear()
    fake_site.projections.touch("watched")
    await expect(frame).to_contain_text("This run's samples are put into that tool")
    assert ada.complaints == []


async def test_a_run_that_begins_says_what_is_done(fake_site: FakeSite, door: Door) -> None:
    fake_site.run_id = "new"
    spec = RunSpec(label_source=LabelSource.LABEL_SOURCE_QUEUE, label_budget=9, batch_size=3)
    fake_site.projections.take(Event(run_id="new", run_started=RunStarted(spec=spec)))
    ada = await door.enter(fake_site)
    frame = ada.page.locator("#frame")
    await expect(frame).to_contain_text("The pool is being read and stored. The first samples come after that.")
    fake_site.held_up.append(HoldUp("oracle", "the bucket is missing", 5.0, "new"))
    fake_site.projections.touch("new")
    await expect(frame).to_contain_text("The run is held up")
    await expect(frame).to_contain_text("the oracle: the bucket is missing.")


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "'\"&lt;"])
async def test_names_are_shown_as_text_not_markup(site: Site, door: Door, name: str) -> None:
    ada = await door.arrive()
    await ada.page.goto(f"{site.url}/?token={site.token}")
    await ada.page.get_by_label("Your name").fill(name)
    await ada.press("Enter")
    await label_all(ada, 1)
    await expect(ada.page.locator("#last")).to_contain_text(f"3 by {name}")
    assert ada.complaints == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("pets/<b>a</b>.png", "pets/<b>a</b>.png"),
        ("x" * 80 + "/a.png", "x" * 30 + "…" + "x" * 23 + "/a.png"),
        ("", ""),
    ],
)
async def test_samples_go_by_their_names(site: Site, door: Door, name: str, shown: str) -> None:
    async def rename(route: Route) -> None:
        response = await route.fetch()
        requests = [request | {"sample_name": name} for request in (await response.json())["requests"]]
        await route.fulfill(response=response, json={"requests": requests})

    ada = await door.arrive()
    await ada.page.route("**/next", rename)
    await ada.page.goto(f"{site.url}/runs/{site.run_id}?token={site.token}&name=ada")
    first = await ada.sample()
    caption, picture = ada.page.locator("#sample-name"), ada.page.locator("#frame img")
    if name:
        await expect(caption).to_have_text(shown)
        await expect(caption).to_have_attribute("title", name)
        await expect(picture).to_have_attribute("alt", name)
    else:
        await expect(caption).to_be_hidden()
        await expect(picture).to_have_attribute("alt", f"Sample {first}")
    assert ada.complaints == []
