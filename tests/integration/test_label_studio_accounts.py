"""Labels of people whose Label Studio accounts are renamed or deleted, and many withdrawals at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labelloop.errors import WrongState
from labelloop.events.v1.events_pb2 import AnnotatorAlias, Event, LabelProvided
from labelloop.oracle.v1.oracle_pb2 import (
    AcceptWithdrawalsRequest,
    ChangeAnnotatorsRequest,
    GetBacklogRequest,
    LabelResult,
    ListHeldWithdrawalsRequest,
    SubmitResultsRequest,
)
from labelloop_cli.local.nats.server import NatsServer

from oracle_svc.bootstrap import Oracle
from tests.integration.label_studio_runs import CLASSES, connect_to, label_count, names, serving
from tests.integration.one_oracle import ask, oracle, until
from tests.queues.fake_label_studio import FakeLabelStudio, fake_label_studio
from tests.unused import UNUSED

SAMPLES = range(20)


@pytest.fixture
async def studio(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FakeLabelStudio]:
    """A fake Label Studio that is asked for twenty samples."""
    await ask(nats_server, tmp_path, list(SAMPLES), tool="label-studio")
    async with fake_label_studio(CLASSES) as (made, url):
        connect_to(url, monkeypatch)
        yield made


@pytest.fixture
async def one(nats_server: NatsServer, tmp_path: Path, studio: FakeLabelStudio) -> AsyncIterator[Oracle]:
    async with oracle(nats_server, tmp_path) as made:
        yield made


async def looked(one: Oracle, studio: FakeLabelStudio) -> None:
    """Let an oracle without memory of its own look at everything, and once more at what changed."""
    async with serving(one):
        for _ in range(4):
            studio.asked.clear()
            await until(studio.asked.is_set)


@pytest.mark.parametrize("soft", [False, True])
async def test_labels_of_a_deleted_account_stay_and_are_nobody_elses(
    one: Oracle, studio: FakeLabelStudio, soft: bool
) -> None:
    for sample in range(3):
        studio.label(f"r/0/{sample}", "b")
    async with serving(one):
        await until(lambda: label_count(one) == 3)
        studio.delete_account(1, soft=soft)
        studio.label("r/0/3", "b", user=2)
        await until(lambda: label_count(one) == 4)
    for _ in range(2):  # as often as the oracle is restarted
        await looked(one, studio)
    assert names(one) == {**dict.fromkeys(range(3), "kim@example.com"), 3: "lee@example.com"}
    assert {each.revision for each in one.projections.get("r").answers.standing.values()} == {0}


async def test_an_annotation_of_a_deleted_account_can_still_be_edited_and_deleted(
    one: Oracle, studio: FakeLabelStudio
) -> None:
    studio.label("r/0/0", "b")
    studio.label("r/0/1", "b")
    async with serving(one):
        await until(lambda: label_count(one) == 2)
        studio.delete_account(1)
        studio.edit(1, "c")
        studio.delete_annotation(2)
        await until(lambda: label_count(one) == 1)
    standing = one.projections.get("r").answers.standing
    assert [(each.annotator, each.answer_revision) for each in standing.values()] == [("kim@example.com", 1)] * 2
    assert standing[0].label == CLASSES.index("c")  # type: ignore[union-attr]


async def test_a_person_keeps_their_name_when_their_address_changes(one: Oracle, studio: FakeLabelStudio) -> None:
    studio.label("r/0/0", "b")
    async with serving(one):
        await until(lambda: label_count(one) == 1)
    studio.emails = {1: "new@example.com", 2: "kim@example.com"}
    studio.label("r/0/1", "b")
    studio.label("r/0/2", "b", user=2)
    async with serving(one):
        await until(lambda: label_count(one) == 3)
    assert names(one) == {0: "kim@example.com", 1: "kim@example.com", 2: "kim@example.com (label-studio:2)"}
    assert one.projections.get("r").accounts.by_id["label-studio:1"] == "kim@example.com"


async def test_names_in_the_log_of_an_earlier_release_stay_those_of_their_accounts(
    one: Oracle, studio: FakeLabelStudio
) -> None:
    """Such a log has addresses without ids, one of which has changed since."""
    studio.label("r/0/0", "b")
    at = studio._task("r/0/0")["annotations"][0]["updated_at"]
    label = LabelProvided(sample_id=0, label=1, annotator="old@example.com", source="queue:label-studio")
    label.source_event_id = f"annotation:1:{at}"
    await one.log.append_once(Event(run_id="r", label_provided=label))
    await one.caught_up()
    studio.label("r/0/1", "b")
    await looked(one, studio)
    assert names(one) == {0: "old@example.com", 1: "old@example.com"}
    assert one.projections.get("r").answers.standing[0].revision == 0


async def test_a_label_that_an_earlier_release_withdrew_by_mistake_returns(
    one: Oracle, studio: FakeLabelStudio
) -> None:
    """The log takes an annotation for deleted that Label Studio still has."""
    studio.label("r/0/0", "b")
    async with serving(one):
        await until(lambda: label_count(one) == 1)
        annotation = studio._task("r/0/0")["annotations"].pop()
        studio._task("r/0/0")["updated_at"] = studio._now()
        await until(lambda: label_count(one) == 0)
        studio._task("r/0/0")["annotations"].append(annotation)
        studio._task("r/0/0")["updated_at"] = studio._now()
        await until(lambda: label_count(one) == 1)
    assert names(one) == {0: "kim@example.com"}


async def test_many_withdrawals_at_once_wait_for_a_person(one: Oracle, studio: FakeLabelStudio) -> None:
    for sample in range(14):
        studio.label(f"r/0/{sample}", "b")
    async with serving(one):
        await until(lambda: label_count(one) == 14)
    for annotation in range(1, 13):
        studio.delete_annotation(annotation)
    service = one.service(["label-studio"])
    async with serving(one):
        await until(lambda: bool(one.projections.get("r").held))
        assert label_count(one) == 14
        [backlog] = (await service.GetBacklog(GetBacklogRequest(run_id="r"), UNUSED)).runs
        assert (backlog.held_withdrawals, backlog.labelled) == (12, 14)
        listed = await service.ListHeldWithdrawals(ListHeldWithdrawalsRequest(run_id="r"), UNUSED)
        assert (listed.total, listed.standing) == (12, 14)
        assert {(each.annotator, each.class_name) for each in listed.withdrawals} == {("kim@example.com", "b")}
        with pytest.raises(WrongState, match="list them again"):
            await service.AcceptWithdrawals(AcceptWithdrawalsRequest(run_id="r", digest="0" * 64), UNUSED)
        accepted = await service.AcceptWithdrawals(AcceptWithdrawalsRequest(run_id="r", digest=listed.digest), UNUSED)
        assert (accepted.withdrawn, accepted.refused, label_count(one)) == (12, 0, 2)
        await until(lambda: not one.projections.get("r").held)


async def test_held_withdrawals_end_if_the_annotations_are_restored(one: Oracle, studio: FakeLabelStudio) -> None:
    for sample in range(10):
        studio.label(f"r/0/{sample}", "b")
    async with serving(one):
        await until(lambda: label_count(one) == 10)
        kept = {each: studio._task(each)["annotations"].pop() for each in studio.requests()}
        for each in kept:
            studio._task(each)["updated_at"] = studio._now()
        await until(lambda: len(one.projections.get("r").held) == 10)
        for each, annotation in kept.items():
            studio._task(each)["annotations"].append(annotation)
        await until(lambda: not one.projections.get("r").held)
    assert label_count(one) == 10


async def test_second_persons_differing_answer_is_kept_as_a_late_one_until_they_agree(
    one: Oracle, studio: FakeLabelStudio
) -> None:
    def late() -> list[tuple[str, int]]:
        kept = one.projections.get("r").late.values()
        return [(each.annotator, each.late_label) for answers in kept for each in answers]

    async def contradicted() -> int:
        [backlog] = (await one.service().GetBacklog(GetBacklogRequest(run_id="r"), UNUSED)).runs
        return backlog.contradicted

    studio.label("r/0/0", "b")
    studio.label("r/0/1", "b")
    async with serving(one):
        await until(lambda: label_count(one) == 2)
        studio.annotate("r/0/0", "b", user=2)
        differing = studio.annotate("r/0/1", "c", user=2)
        await until(lambda: late() == [("lee@example.com", CLASSES.index("c"))])
        assert await contradicted() == 1
    await looked(one, studio)
    assert late() == [("lee@example.com", CLASSES.index("c"))], "it is kept once"
    async with serving(one):
        studio.edit(differing, "b")
        await until(lambda: len(late()) == 2)
        assert await contradicted() == 0
        studio.edit(differing, "c")
        await until(lambda: len(late()) == 3)
        assert await contradicted() == 1
    assert names(one) == {0: "kim@example.com", 1: "kim@example.com"}
    assert not one.dead_letters.letters


async def test_a_late_answer_of_a_deleted_account_stays_theirs(one: Oracle, studio: FakeLabelStudio) -> None:
    studio.label("r/0/0", "b")
    async with serving(one):
        await until(lambda: label_count(one) == 1)
        studio.annotate("r/0/0", "c", user=2)
        await until(lambda: bool(one.projections.get("r").late))
        studio.delete_account(2)
    await looked(one, studio)
    [late] = one.projections.get("r").late[0]
    assert (late.annotator, late.annotator_id) == ("lee@example.com", "label-studio:2")


async def test_second_persons_answer_counts_once_the_first_is_withdrawn(one: Oracle, studio: FakeLabelStudio) -> None:
    studio.label("r/0/0", "b")
    async with serving(one):
        await until(lambda: label_count(one) == 1)
        studio.annotate("r/0/0", "c", user=2)
        await until(lambda: bool(one.projections.get("r").late))
        studio.delete_annotation(1)
        await until(lambda: names(one) == {0: "lee@example.com"})
    [backlog] = (await one.service().GetBacklog(GetBacklogRequest(run_id="r"), UNUSED)).runs
    assert (backlog.contradicted, len(one.dead_letters.letters)) == (0, 0)


async def test_an_account_that_is_declared_to_be_somebody_is_asked_and_counted_as_them(
    one: Oracle, studio: FakeLabelStudio
) -> None:
    service = one.service(["label-studio"])
    said = LabelResult(request_id="r/0/0", label=1, annotator="Kim")
    await service.SubmitResults(SubmitResultsRequest(results=[said]), UNUSED)
    alias = AnnotatorAlias(name="kim@example.com", same_as="Kim")
    await service.ChangeAnnotators(ChangeAnnotatorsRequest(run_id="r", alias=alias), UNUSED)
    studio.label("r/0/0", "b")
    studio.label("r/0/1", "c")
    async with serving(one):
        await until(lambda: label_count(one) == 2)
    [backlog] = (await service.GetBacklog(GetBacklogRequest(run_id="r"), UNUSED)).runs
    assert [(each.annotator, each.answers) for each in backlog.annotators] == [("Kim", 2)]
