"""Several windows of one annotator, pages that are loaded anew, and answers that are not sent yet."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from pathlib import Path
from typing import Any

from labelloop.errors import InvalidInput, NotAllowed, WrongState
from labelloop.events.v1.events_pb2 import Event, RunCancelled, RunFinished
from labelloop.oracle.v1 import oracle_pb2 as pb
from playwright.async_api import expect

from tests.patience import PATIENCE_S
from tests.web.conftest import Annotator, Door, FakeSite, eventually
from tests.web.site import Site
from tests.web.test_page import label_all, relabel_after_undo, until


async def another_window(annotator: Annotator, site: Site) -> Annotator:
    """Open the run in a second tab of the same browser."""
    page = await annotator.context.new_page()
    page.set_default_timeout(15_000)
    second = Annotator(page, annotator.context)
    page.on("console", lambda said: second.complaints.append(said.text) if said.type == "error" else None)
    await page.goto(f"{site.url}/runs/{site.run_id}")
    return second


async def test_windows_of_one_annotator_show_different_samples(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    first = await ada.sample()
    second = await another_window(ada, site)
    assert await second.sample() != first
    assert await ada.sample() == first
    mine = await label_all(second, 1, "4")
    await expect(ada.page.locator("#progress-text")).to_contain_text("1 of")
    also = await label_all(ada, 1, "5")
    await until(site, {mine[0]: 4, also[0]: 5})
    assert ada.complaints == second.complaints == []


async def test_windows_of_one_annotator_share_a_run_to_its_end(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    second = await another_window(ada, site)

    async def label_what_comes(window: Annotator) -> list[int]:
        seen: list[int] = []
        while not await window.page.locator("#frame", has_text="All done").count():
            if shown := await window.page.get_attribute("#frame", "data-sample"):
                seen.append(int(shown))
                await window.press("4")
                await window.gone(int(shown))
            else:
                await asyncio.sleep(0.05)
        return seen

    async with asyncio.timeout(PATIENCE_S):
        one, two = await asyncio.gather(label_what_comes(ada), label_what_comes(second))
    assert not set(one) & set(two)
    assert len(one) + len(two) == len(await site.labels()) == site.budget
    for window in (ada, second):
        assert "omebody else" not in await window.page.inner_text("#toast")


async def test_samples_of_a_closed_window_come_to_the_other(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    held = await ada.sample()
    second = await another_window(ada, site)
    await second.sample()
    await ada.page.close()
    seen = await label_all(second, site.batch_size)
    assert int(held) in seen


async def test_ones_own_answer_on_another_device_is_not_somebody_elses(fake_site: FakeSite, door: Door) -> None:
    ada = await door.enter(fake_site)
    sample = int(await ada.sample())
    await fake_site.oracle.answer(f"{fake_site.run_id}/0/{sample}/0", "ada", 8)
    await ada.press("2")
    await expect(ada.page.locator("#toast")).to_contain_text("You had answered that one already")
    await until(fake_site, {sample: 8})


async def test_answers_can_be_taken_back_after_a_reload(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    first, second = await label_all(ada, 2)
    await until(site, {first: 3, second: 3})
    await ada.page.reload()
    await ada.sample()
    await expect(ada.page.locator("#done b")).to_have_text(["3", "3"])
    await ada.press("u")
    await expect(ada.page.locator("#frame img")).to_have_js_property("naturalWidth", 28)
    await relabel_after_undo(ada, site, first, second)


async def test_answers_of_a_batch_before_can_be_taken_back_after_a_reload(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    seen = await label_all(ada, site.batch_size)
    await ada.sample()  # of the next batch
    await ada.page.reload()
    await ada.sample()
    await ada.press("u")
    await ada.page.wait_for_selector(f"#frame[data-sample='{seen[-1]}'] > img")
    await ada.press("8")
    await eventually(site.labels, lambda labels: labels.get(seen[-1]) == 8)
    assert ada.complaints == []


async def test_signing_out_forgets_what_can_be_taken_back(site: Site, door: Door) -> None:
    ada = await door.enter(site)
    await label_all(ada, 1)
    await ada.page.get_by_role("button", name="Sign out").click()
    await ada.page.get_by_label("Token").wait_for()
    assert await ada.page.evaluate("sessionStorage.length") == 0


async def test_a_cancelled_run_takes_its_sample_away_and_offers_the_next(fake_site: FakeSite, door: Door) -> None:
    fake_site.oracle.start_run("letters")
    ada = await door.enter(fake_site)
    sample = int(await ada.sample())
    cancelled = Event(run_id=fake_site.run_id, run_cancelled=RunCancelled(reason="the wrong pool"))
    fake_site.projections.take(cancelled)
    frame = ada.page.locator("#frame")
    await expect(frame).to_contain_text("The run was cancelled")
    await expect(frame).to_contain_text("the wrong pool")
    await expect(ada.page.locator("#toast")).to_contain_text("needs no answer any more")
    await ada.gone(sample)
    await ada.press("3")
    assert await fake_site.labels() == {}
    await frame.get_by_role("link", name="Label the next run: letters").click()
    await ada.sample()
    assert ada.page.url.endswith("/runs/letters")
    assert ada.complaints == []


async def test_a_finished_run_without_another_leads_to_all_runs(fake_site: FakeSite, door: Door) -> None:
    ada = await door.enter(fake_site)
    await ada.sample()
    finished = Event(run_id=fake_site.run_id, run_finished=RunFinished(reason="enough"))
    fake_site.projections.take(finished)
    await expect(ada.page.locator("#frame").get_by_role("link", name="All runs")).to_be_visible()


async def test_an_archived_run_takes_its_sample_away(fake_site: FakeSite, door: Door) -> None:
    ada = await door.enter(fake_site)
    sample = int(await ada.sample())
    fake_site.projections.archive(fake_site.run_id)
    await ada.gone(sample)
    await expect(ada.page.locator("#frame")).to_contain_text("archived", timeout=PATIENCE_S * 1_000)


class Refusing:
    """Refuses answers while it is told to."""

    def __init__(self, site: FakeSite) -> None:
        self.error: Exception | None = None
        self._submit = site.oracle.SubmitResults
        site.oracle.SubmitResults = self.submit  # type: ignore[method-assign]

    async def submit(self, request: pb.SubmitResultsRequest, context: Any) -> pb.SubmitResultsResponse:
        if self.error:
            raise self.error
        return await self._submit(request, context)


async def test_answers_of_somebody_removed_are_kept_and_sent_later(fake_site: FakeSite, door: Door) -> None:
    oracle = Refusing(fake_site)
    ada = await door.enter(fake_site)
    oracle.error = NotAllowed("REMOVED", "ada may not label here any more")
    (sample,) = await label_all(ada, 1, "7")
    await expect(ada.page.locator("#banner")).to_contain_text("ada may not label here any more. 1 answer kept")
    await expect(ada.page.locator("#unsent")).to_have_text("1 unsent")
    await ada.page.reload()
    await expect(ada.page.locator("#banner")).to_contain_text("1 answer kept")
    oracle.error = None
    await until(fake_site, {sample: 7})
    await expect(ada.page.locator("#unsent")).to_be_hidden()
    await expect(ada.page.locator("#banner")).to_be_hidden()


async def test_answers_for_an_archived_run_are_kept(fake_site: FakeSite, door: Door) -> None:
    oracle = Refusing(fake_site)
    ada = await door.enter(fake_site)
    oracle.error = WrongState("RUN_ARCHIVED", "the run is archived: restore it")
    (sample,) = await label_all(ada, 1, "7")
    await expect(ada.page.locator("#banner")).to_contain_text("1 answer kept")
    oracle.error = None
    await until(fake_site, {sample: 7})


async def test_a_refused_answer_is_not_kept(fake_site: FakeSite, door: Door) -> None:
    oracle = Refusing(fake_site)
    ada = await door.enter(fake_site)
    oracle.error = InvalidInput("TOO_LATE", "too late")
    await label_all(ada, 1, "7")
    await expect(ada.page.locator("#toast")).to_have_text("too late")
    await expect(ada.page.locator("#unsent")).to_be_hidden()


async def test_unsent_answers_are_shown_after_signing_out_and_saved_as_a_table(
    fake_site: FakeSite, door: Door, tmp_path: Path
) -> None:
    fake_site.run_id = "odd"
    fake_site.oracle.start_run("odd", classes=("cat, big", "=SUM(A1)", "dog"))
    oracle = Refusing(fake_site)
    ada = await door.enter(fake_site)
    oracle.error = NotAllowed("REMOVED", "ada may not label here any more")
    seen = [*await label_all(ada, 1, "1"), *await label_all(ada, 1, "2"), *await label_all(ada, 1, "s")]
    await ada.context.clear_cookies()
    await ada.page.goto(f"{fake_site.url}/login")
    notice = ada.page.locator("#unsent-elsewhere")
    await expect(notice).to_contain_text("3 answers of ada in run odd")
    async with ada.page.expect_download() as download:
        await notice.get_by_role("button", name="Save as a file").click()
    path = tmp_path / "unsent.csv"
    await (await download.value).save_as(path)
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    assert [(int(row["id"]), row["class"], row["class_name"], row["other"]) for row in rows] == [
        (seen[0], "0", "cat, big", ""),
        (seen[1], "1", "'=SUM(A1)", ""),
        (seen[2], "", "", "SKIP_KIND_SKIPPED"),
    ]
    oracle.error = None
    await ada.page.goto(f"{fake_site.url}/runs/odd?token={fake_site.token}&name=bob")
    await ada.sample()
    await expect(notice).to_contain_text("3 answers of ada")
    assert await fake_site.labels() == {}
    await ada.page.goto(f"{fake_site.url}/runs/odd?token={fake_site.token}&name=ada")
    await until(fake_site, {seen[0]: 0, seen[1]: 1})
    await expect(notice).to_be_hidden()


async def test_answers_for_an_earlier_run_of_that_name_are_never_sent(fake_site: FakeSite, door: Door) -> None:
    oracle = Refusing(fake_site)
    ada = await door.enter(fake_site)
    oracle.error = NotAllowed("REMOVED", "not now")
    await label_all(ada, 1, "7")
    del fake_site.projections.runs[fake_site.run_id]
    fake_site.oracle.start_run(fake_site.run_id, budget=20)  # another spec
    oracle.error = None
    await ada.page.reload()
    await ada.sample()
    await expect(ada.page.locator("#unsent-elsewhere")).to_contain_text(
        re.compile("1 answer of ada .* are of an earlier run")
    )
    await label_all(ada, 1, "2")
    await eventually(fake_site.labels, lambda labels: bool(labels))
    assert set((await fake_site.labels()).values()) == {2}
