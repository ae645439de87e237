"""The permissions of the broker's users, on a real server with production settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from labelloop.artifacts.store import JetStreamArtifacts, digest_of
from labelloop.domain.ids import LeaseKey
from labelloop.errors import InvalidInput, NotAllowed, NotFound
from labelloop.eventlog.connection import connect, connect_service
from labelloop.eventlog.hold_up_reports import PREFIX as HOLD_UPS
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.presence import PREFIX as REPLICAS
from labelloop.eventlog.retry import retry_while_away
from labelloop.eventlog.subjects import PREFIX, STREAM, subject_of
from labelloop.events.v1.events_pb2 import Event
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelVerdict
from labelloop.settings import ServiceSettings
from labelloop_cli.operations.keys import USERS
from nats.aio.client import Client
from nats.aio.msg import Msg

from oracle_svc.integrations.nats import STREAM as QUEUE_STREAM
from oracle_svc.integrations.nats import Nats
from oracle_svc.leases import Leases
from oracle_svc.uploads.receiver import UploadReceiver
from oracle_svc.uploads.store import JetStreamUploads
from tests.integration.production_broker import Node, lone_node, make_streams, new_enough, running
from tests.memory_uploads import put_files

KINDS = {field.name for field in Event.DESCRIPTOR.oneofs_by_name["payload"].fields}
ANSWERS = {"label_provided", "sample_skipped", "label_withdrawn", "answer_given", "annotators_changed"}
OF_ORACLE = {"pool_published"} | ANSWERS
MAY = {
    "trainer": KINDS - {"pool_published", "run_restored", "run_deleted"} - ANSWERS,
    "scorer": set[str](),
    "oracle": OF_ORACLE,
    "import": KINDS,
    "operator": {"run_deleted"},
}
MAY_PURGE = {"operator": {f"$JS.API.STREAM.PURGE.{STREAM}"}}


def event_of(kind: str, user: str, round_: int = 1) -> Event:
    """An event of that kind without content, of a run of the user's own."""
    event = Event(run_id=f"of-{user}", round=round_)
    getattr(event, kind).SetInParent()
    return event


@pytest.fixture
async def node(nats_binary: Path, tmp_path: Path) -> AsyncIterator[Node]:
    node = lone_node(new_enough(nats_binary, tmp_path / "packages"), tmp_path)
    with running([node]):
        await node.ready()
        await make_streams(node)
        yield node


async def connected(node: Node, user: str) -> Client:
    name = "trainer" if user == "import" else user
    return await connect(node.url, name, nkey_file=node.access.seed(user))


async def may_write(client: Client, subject: str) -> bool:
    try:
        await retry_while_away(lambda: client.jetstream().publish(subject, b""))
    except NotAllowed:
        return False
    return True


async def test_each_user_may_write_only_its_own_kinds_of_events(node: Node) -> None:
    for user in USERS:
        client = await connected(node, user)
        await EventLog(client).ensure_stream()
        subjects = {kind: subject_of(event_of(kind, user)) for kind in KINDS}
        allowed = await asyncio.gather(*(may_write(client, subject) for subject in subjects.values()))
        assert {kind for kind, may in zip(subjects, allowed, strict=True) if may} == MAY[user], user
        await client.close()


async def test_the_oracle_may_fail_a_run_in_round_0(node: Node) -> None:
    """If there is no pool; the test above shows that in round 1 it may not."""
    client = await connected(node, "oracle")
    await EventLog(client).ensure_stream()
    assert await may_write(client, subject_of(event_of("run_failed", "oracle", round_=0)))
    await client.close()


async def test_no_user_may_make_destructive_requests(node: Node) -> None:
    """On the stream, its messages, a new stream, the account or a foreign subject."""
    harmful = [
        f"$JS.API.STREAM.DELETE.{STREAM}",
        f"$JS.API.STREAM.PURGE.{STREAM}",
        f"$JS.API.STREAM.MSG.DELETE.{STREAM}",
        f"$JS.API.STREAM.RESTORE.{STREAM}",
        f"$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}",
        "$JS.API.STREAM.CREATE.ANOTHER",
        "$JS.API.ACCOUNT.PURGE.$G",
        "somewhere.else",
    ]
    for user in USERS:
        client = await connected(node, user)
        await EventLog(client).ensure_stream()
        subjects = [subject for subject in harmful if subject not in MAY_PURGE.get(user, ())]
        results = await asyncio.gather(
            *(retry_while_away(partial(client.request, subject, timeout=3)) for subject in subjects),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [NotAllowed] * len(subjects), user
        await client.close()


async def test_the_scorer_may_read_but_not_store_artifacts(node: Node) -> None:
    oracle, scorer = await connected(node, "oracle"), await connected(node, "scorer")
    with pytest.raises(NotFound):
        await JetStreamArtifacts(scorer).get(digest_of(b"model"))
    small, large = await JetStreamArtifacts(oracle).put(b"model"), await JetStreamArtifacts(oracle).put(bytes(1 << 21))
    assert await JetStreamArtifacts(scorer).get(small) == b"model"
    assert await JetStreamArtifacts(scorer).get(large) == bytes(1 << 21)
    with pytest.raises(NotAllowed, match="does not let scorer"):
        await JetStreamArtifacts(scorer).put(b"another")
    await oracle.close()
    await scorer.close()


async def test_the_oracle_may_repeat_requests_send_verdicts_and_take_and_read_leases(node: Node) -> None:
    client = await connected(node, "oracle")
    request, queue = LabelRequest(request_id="r/0/7/0", run_id="r"), Nats(client)
    for request.attempt in range(3):
        await queue.push([request])
    await queue._tell([("r", LabelVerdict(request_id="r/0/7/0"))])
    info = await client.jetstream().stream_info(QUEUE_STREAM)
    assert info.state.messages == 4
    leases, key = Leases(client), LeaseKey.parse("r.0.7.0")
    await leases.ensure_stream()
    until = await leases.take(key, "tool:nats", 60)
    await leases.shorten(key, "tool:nats", 1)
    assert 0 < leases.ends_in_s("tool:nats") <= 1 < until
    await client.close()


async def test_only_the_oracle_may_keep_and_delete_uploads(node: Node) -> None:
    client = await connected(node, "oracle")
    receiver = UploadReceiver(JetStreamUploads(client, 1_000_000), 1_000_000)
    upload = await put_files(receiver, {"a": b"one"}, "pool")
    assert await receiver.remove(upload.id) == 2
    assert not (await receiver.listed()).uploads
    await client.close()
    trainer = await connected(node, "trainer")
    with pytest.raises(NotAllowed):
        await JetStreamUploads(trainer, 1_000_000).put_part(digest_of(b"one"), b"one")
    await trainer.close()


def into(heard: list[str]) -> Callable[[Msg], Awaitable[None]]:
    """A callback that adds each message, with its subject."""

    async def add(message: Msg) -> None:
        heard.append(f"{message.subject} {message.data.decode()}")

    return add


async def test_replicas_hear_those_of_their_own_service_and_no_other(node: Node) -> None:
    heard: dict[str, list[str]] = {user: [] for user in USERS}
    clients = {user: await connected(node, user) for user in USERS}

    for user, client in clients.items():
        for service in ("trainer", "oracle"):
            await client.subscribe(f"{REPLICAS}.{service}", cb=into(heard[user]))
        await client.flush()
    for user, client in clients.items():
        for service in ("trainer", "oracle"):
            await client.publish(f"{REPLICAS}.{service}", user.encode())
        await client.flush()
    for client in clients.values():
        await client.flush()
        await client.close()
    of_trainers = [f"{REPLICAS}.trainer {user}" for user in USERS if user in ("trainer", "import")]
    assert heard == {
        "trainer": of_trainers,
        "import": of_trainers,
        "oracle": [f"{REPLICAS}.oracle oracle"],
        "scorer": [],
        "operator": [],
    }


async def test_trainers_and_oracles_hear_what_holds_up_any_service_from_nobody_else(node: Node) -> None:
    heard: dict[str, list[str]] = {user: [] for user in USERS}
    clients = {user: await connected(node, user) for user in USERS}

    for user, client in clients.items():
        await client.subscribe(f"{HOLD_UPS}.*", cb=into(heard[user]))
        await client.flush()
    for user, client in clients.items():
        for service in ("trainer", "scorer", "oracle"):
            await client.publish(f"{HOLD_UPS}.{service}", user.encode())
        await client.flush()
    for client in clients.values():
        await client.flush()
        await client.close()
    said = {f"{HOLD_UPS}.trainer trainer", f"{HOLD_UPS}.trainer import"}
    said |= {f"{HOLD_UPS}.scorer scorer", f"{HOLD_UPS}.oracle oracle"}
    hearing = {"trainer", "import", "oracle"}
    assert {user: {*each} for user, each in heard.items()} == {
        user: said if user in hearing else set() for user in USERS
    }


async def test_a_user_receives_no_replies_to_another_and_no_live_events(node: Node) -> None:
    scorer, oracle = await connected(node, "scorer"), await connected(node, "oracle")
    overheard = await scorer.subscribe("_INBOX_oracle.>")
    everything = await scorer.subscribe(f"{PREFIX}.>")
    await scorer.flush()
    await EventLog(oracle).ensure_stream()
    await oracle.jetstream().publish(subject_of(event_of("pool_published", "oracle")), b"")
    await scorer.flush()
    assert overheard.pending_msgs == everything.pending_msgs == 0
    await scorer.close()
    await oracle.close()


async def test_an_invalid_nkey_seed_is_a_clear_error(node: Node, tmp_path: Path) -> None:
    bad = tmp_path / "seed"
    for content in (None, "", "SUANOTASEED"):
        if content is not None:
            bad.write_text(content)
        with pytest.raises(InvalidInput, match="LABELLOOP_NATS_NKEY_FILE"):
            await connect_service(ServiceSettings(nats_url=node.url, nats_nkey_file=bad), "scorer")
