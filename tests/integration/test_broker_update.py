"""`labelloop broker update` on a broker with production settings, and services before and after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labelloop.artifacts.store import JetStreamArtifacts
from labelloop.errors import LimitExceeded, Unready, WrongState
from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.stream_setup import change_settings, create_stream, ensure_stream, read_settings
from labelloop.eventlog.streams import StreamSpec, artifacts, dead_letters, events
from labelloop.settings import ServiceSettings
from labelloop_cli.operations.broker import follow_streams, specs_of, update_streams
from nats.aio.client import Client
from structlog.testing import capture_logs

from tests.integration.one_oracle import until
from tests.integration.production_broker import UPLOAD_BYTES_MAX, Node, lone_node, new_enough, running

Output = pytest.CaptureFixture[str]


@pytest.fixture
async def node(nats_binary: Path, tmp_path: Path) -> AsyncIterator[Node]:
    node = lone_node(new_enough(nats_binary, tmp_path / "packages"), tmp_path)
    with running([node]):
        await node.ready()
        yield node


@pytest.fixture
def settings(node: Node) -> ServiceSettings:
    return ServiceSettings(nats_url=node.url, nats_nkey_file=node.access.seed("operator"))


@pytest.fixture
async def operator(node: Node) -> AsyncIterator[Client]:
    client = await connect(node.url, "operator", nkey_file=node.access.seed("operator"))
    yield client
    await client.close()


@pytest.fixture
async def trainer(node: Node) -> AsyncIterator[Client]:
    client = await connect(node.url, "trainer", nkey_file=node.access.seed("trainer"))
    yield client
    await client.close()


async def test_all_streams_are_made_once(settings: ServiceSettings, operator: Client, capsys: Output) -> None:
    await update_streams(settings, UPLOAD_BYTES_MAX, dry_run=True)
    assert capsys.readouterr().out.count("would be created") == 6
    await update_streams(settings, UPLOAD_BYTES_MAX)
    assert capsys.readouterr().out.count("created") == 6
    for spec in specs_of(settings, UPLOAD_BYTES_MAX):
        assert set((await read_settings(operator, spec.name))["subjects"]) == set(spec.subjects)
    await update_streams(settings, UPLOAD_BYTES_MAX)
    assert capsys.readouterr().out.count("as it should be") == 6


async def test_settings_that_differ_are_shown_and_then_corrected(
    settings: ServiceSettings, operator: Client, capsys: Output
) -> None:
    await create_stream(operator, StreamSpec(events().name, events().subjects, kept_s=60))
    await update_streams(settings, 0, dry_run=True)
    said = capsys.readouterr().out
    assert "LABELLOOP: would change: deny_delete is False and should be True" in said
    assert "max_age is 60000000000" in said
    assert (await read_settings(operator, events().name))["max_age"] == 60_000_000_000
    await update_streams(settings, 0)
    standing = await read_settings(operator, events().name)
    assert (standing["max_age"], standing["deny_delete"]) == (0, True)


async def test_streams_are_looked_after_until_a_person_has_to_act(
    settings: ServiceSettings, operator: Client, capsys: Output
) -> None:
    name, said = artifacts().name, list[str]()
    following = asyncio.create_task(follow_streams(settings, 0, every_s=0.05))

    def told(text: str) -> bool:
        said.append(capsys.readouterr().out)
        return text in "".join(said)

    await until(lambda: told(f"{name}: as it should be"))
    await change_settings(operator, name, {**await read_settings(operator, name), "allow_rollup_hdrs": True})
    await until(lambda: told(f"{name}: changed: allow_rollup_hdrs is True"))
    assert not (await read_settings(operator, name)).get("allow_rollup_hdrs")
    assert "".join(said).count(f"{dead_letters().name}: as it should be") == 1, "it is not said each time"
    await change_settings(operator, name, {**await read_settings(operator, name), "sealed": True})
    with pytest.raises(WrongState, match=f"{name} differs in what the broker cannot change"):
        await following


async def test_what_the_broker_cannot_change_is_said_after_the_other_streams_are_made(
    settings: ServiceSettings, operator: Client, capsys: Output
) -> None:
    await operator.jetstream().add_stream(name=events().name, subjects=list(events().subjects), storage="memory")
    with pytest.raises(WrongState, match="LABELLOOP differs in what the broker cannot change: storage is 'memory'"):
        await update_streams(settings, 0)
    assert capsys.readouterr().out.count("created") == 4


async def test_a_broker_without_room_for_uploads_has_all_other_streams(
    settings: ServiceSettings, capsys: Output
) -> None:
    with pytest.raises(LimitExceeded, match="LABELLOOP_UPLOAD_GB"):
        await update_streams(settings, 10**15)
    assert capsys.readouterr().out.count("created") == 5


async def test_a_service_waits_until_its_stream_is_made(
    settings: ServiceSettings, trainer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unready, match=r"no stream LABELLOOP.*run `labelloop broker update`"):
        await ensure_stream(trainer, events())
    with pytest.raises(Unready, match="no stream OBJ_labelloop-artifacts"):
        await JetStreamArtifacts(trainer).put(b"model")
    log = EventLog(trainer)
    waiting = asyncio.create_task(log.ensure_stream())
    await update_streams(settings, 0)
    await waiting
    assert await log.last_sequence() == 0


async def test_a_service_says_what_it_may_not_correct_and_goes_on(
    settings: ServiceSettings, operator: Client, trainer: Client
) -> None:
    await update_streams(settings, 0)
    name = artifacts().name
    await change_settings(operator, name, {**await read_settings(operator, name), "allow_rollup_hdrs": True})
    with capture_logs() as logs:
        await ensure_stream(trainer, artifacts())
    [line] = [each for each in logs if each["event"] == "stream_differs"]
    said = str(line)
    assert "allow_rollup_hdrs is True and should not be set" in said
    assert "labelloop broker update" in said
    assert (await read_settings(operator, name))["allow_rollup_hdrs"]
    await update_streams(settings, 0)
    assert not (await read_settings(operator, name)).get("allow_rollup_hdrs")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_msgs", 1),
        ("max_age", 10**12),
        ("sealed", True),
        ("republish", {"src": ">", "dest": "copies.>"}),
        ("sources", [{"name": dead_letters().name, "filter_subject": "labelloop-dead.v1.x"}]),
    ],
)
async def test_a_service_does_not_start_on_a_stream_that_loses_or_forges_messages(
    settings: ServiceSettings, operator: Client, trainer: Client, setting: str, value: object
) -> None:
    await update_streams(settings, 0)
    name = events().name
    await change_settings(operator, name, {**await read_settings(operator, name), setting: value})
    with pytest.raises(WrongState, match=f"LABELLOOP cannot be used.*{setting}"):
        await EventLog(trainer).ensure_stream()
