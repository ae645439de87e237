"""Label Studio's tasks, projects and configurations are deleted or changed under a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labelloop.oracle.v1.oracle_pb2 import (
    Backlog,
    ClassAlias,
    GetBacklogRequest,
    LabelRequest,
    LabelRetraction,
    ReplayDeadLettersRequest,
)
from labelloop_cli.local.nats.server import NatsServer

from oracle_svc.bootstrap import Oracle
from tests.integration.label_studio_runs import CLASSES, connect_to, label_count, names, serving
from tests.integration.one_oracle import ask, oracle, until
from tests.queues.fake_label_studio import PROJECT, FakeLabelStudio, fake_label_studio
from tests.unused import UNUSED

REQUESTS = ["r/0/7", "r/0/3", "r/0/5"]


@pytest.fixture
async def studio(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FakeLabelStudio]:
    """A fake Label Studio that is asked for three samples, in a project of the run."""
    await ask(nats_server, tmp_path, [7, 3, 5], tool="label-studio")
    async with fake_label_studio(CLASSES) as (made, url):
        connect_to(url, monkeypatch, project=None)
        yield made


@pytest.fixture
async def one(nats_server: NatsServer, tmp_path: Path, studio: FakeLabelStudio) -> AsyncIterator[Oracle]:
    async with oracle(nats_server, tmp_path) as made:
        yield made


async def backlog(one: Oracle) -> Backlog:
    [found] = (await one.service(["label-studio"]).GetBacklog(GetBacklogRequest(run_id="r"), UNUSED)).runs
    return found


def own_project(studio: FakeLabelStudio) -> int:
    """The newest project."""
    return max(studio.titles)


async def test_a_deleted_task_is_put_into_the_project_again(one: Oracle, studio: FakeLabelStudio) -> None:
    async with serving(one, pushing=True):
        await until(lambda: studio.requests() == REQUESTS)
        studio.delete_task("r/0/3")
        await until(lambda: sorted(studio.requests()) == sorted(REQUESTS))
        studio.annotate("r/0/3", "b")
        await until(lambda: names(one) == {3: "kim@example.com"})
    assert studio.imported == [*REQUESTS, "r/0/3"]


async def test_a_deleted_project_is_made_again_with_what_is_still_asked_for(
    one: Oracle, studio: FakeLabelStudio
) -> None:
    async with serving(one, pushing=True):
        await until(lambda: studio.requests() == REQUESTS)
        studio.annotate("r/0/7", "b")
        await until(lambda: label_count(one) == 1)
        studio.delete_project(own_project(studio))
        await until(lambda: studio.requests() == REQUESTS[1:])
        studio.annotate("r/0/5", "c")
        await until(lambda: label_count(one) == 2)
    assert (await backlog(one)).problem == ""


async def test_what_is_retracted_from_a_deleted_project_is_gone_already(one: Oracle, studio: FakeLabelStudio) -> None:
    async with serving(one) as queue:
        await queue.push(await requests_of(one))
        studio.delete_project(own_project(studio))
        await queue.retract([LabelRetraction(request_id=each) for each in REQUESTS])
        await queue.push(await requests_of(one))
    assert studio.requests() == REQUESTS


async def requests_of(one: Oracle) -> list[LabelRequest]:
    """The requests of the run's open samples."""
    return [await one.dispenser.shown(one.projections.get("r"), sample_id) for sample_id in (7, 3, 5)]


async def test_a_run_whose_configured_project_is_deleted_says_so_in_words_and_goes_on_later(
    one: Oracle, studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELLOOP_LABEL_STUDIO_PROJECT", str(PROJECT))
    config = studio.configs[PROJECT]
    async with serving(one, pushing=True):
        await until(lambda: studio.requests() == REQUESTS)
        studio.delete_project(PROJECT)
        await until(lambda: bool(one.projections.get("r").notices))
        [notice] = (await backlog(one)).notices
        assert "Label Studio has no project 7" in notice
        assert "LABELLOOP_LABEL_STUDIO_PROJECT" in notice
        assert "{" not in notice
        studio.configs[PROJECT], studio.titles[PROJECT] = config, "restored"
        await until(lambda: studio.requests() == REQUESTS)
        await until(lambda: not one.projections.get("r").notices)


async def test_a_renamed_class_is_said_and_its_letters_are_read_as_the_old_one(
    one: Oracle, studio: FakeLabelStudio
) -> None:
    async with serving(one, pushing=True):
        await until(lambda: studio.requests() == REQUESTS)
        config = studio.configs[own_project(studio)]
        studio.configs[own_project(studio)] = config.replace('value="b"', 'value="bee"')
        await until(lambda: bool(one.projections.get("r").notices))
        [notice] = (await backlog(one)).notices
        assert "lacks 'b' as choices" in notice
        assert '<Choice value="bee" alias="b"/>' in notice
        assert "labelloop label replay --class 'bee=b'" in notice
        studio.annotate("r/0/7", "bee")
        studio.annotate("r/0/3", "wasp")
        await until(lambda: len(one.dead_letters.letters) == 2)
        assert (await backlog(one)).dead_letters == 2
        studio.configs[own_project(studio)] = config.replace('value="b"', 'value="bee" alias="b"')
        await until(lambda: not one.projections.get("r").notices)
        aliases = [ClassAlias(name="bee", class_name="b"), ClassAlias(name="bean", class_name="c")]
        response = await one.service().ReplayDeadLetters(ReplayDeadLettersRequest(class_aliases=aliases), UNUSED)
        assert (response.taken, len(response.refused), len(one.dead_letters.letters)) == (1, 0, 1)
        assert one.projections.get("r").answers.standing[7].label == CLASSES.index("b")  # type: ignore[union-attr]
    async with serving(one):  # the annotation still says bee, and is not a correction
        for _ in range(4):
            studio.asked.clear()
            await until(studio.asked.is_set)
    assert (label_count(one), len(one.dead_letters.letters)) == (1, 1)


async def test_a_letter_ends_when_its_annotator_says_something_else(one: Oracle, studio: FakeLabelStudio) -> None:
    async with serving(one, pushing=True):
        await until(lambda: studio.requests() == REQUESTS)
        wrong = studio.annotate("r/0/7", "bee")
        await until(lambda: len(one.dead_letters.letters) == 1)
        studio.edit(wrong, "c")
        await until(lambda: label_count(one) == 1)
        await until(lambda: not one.dead_letters.letters)
