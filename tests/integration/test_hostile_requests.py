"""What a stolen key can do with requests that its user is allowed: hostile bodies, headers and subjects for replies.

For each user and each subject of the broker's API that access.conf allows it, on each nats-server that is there.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from labelloop.artifacts.store import JetStreamArtifacts, chunk_subject, chunks_name, digest_of, meta_subject
from labelloop.domain.ids import LeaseKey
from labelloop.errors import InvalidInput
from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.streams import DEAD_LETTERS_PREFIX as DEAD
from labelloop.eventlog.streams import LEASES_PREFIX as LEASES
from labelloop.eventlog.streams import UPLOADS_PREFIX as UPLOADS
from labelloop.eventlog.subjects import subject_of
from labelloop.events.v1.events_pb2 import Event, RunFailed, RunFinished
from labelloop.settings import ServiceSettings
from labelloop_cli.operations.broker import specs_of
from labelloop_cli.operations.keys import USERS
from nats.aio.client import Client
from nats.errors import Error as NatsError

from oracle_svc.dead_letters import DeadLetters
from oracle_svc.integrations.nats import REQUESTS
from oracle_svc.leases import Leases
from oracle_svc.uploads.store import JetStreamUploads
from tests.integration.one_oracle import until
from tests.integration.production_broker import (
    CONFIGS,
    UPLOAD_BYTES_MAX,
    VERSION_MIN,
    Access,
    Node,
    lone_node,
    make_streams,
    newer,
    running,
    version_of,
)
from tests.integration.stood import Stood, stood
from tests.patience import PATIENCE_S

STREAMS = [spec.name for spec in specs_of(ServiceSettings(), UPLOAD_BYTES_MAX)]
MODEL, LARGE = b"model", bytes(range(256)) * 4_096
FINISHED = Event(run_id="r", round=1, run_finished=RunFinished(reason="done"))
FAILED = Event(run_id="r", round=0, run_failed=RunFailed(reason="no pool"))
LABEL = "labelloop.v1.r.0.label.7.0"
LETTER = InvalidInput("BAD_LABEL", "no such class")
KEY = LeaseKey.parse("r.0.7.0")

# Subjects under which a service would believe what it reads, or find a place taken.
TARGETS = [
    LABEL,
    subject_of(FAILED),
    "labelloop.v1.r.0.pool_published",
    "labelloop.v1.r.1.run_failed",
    chunk_subject(digest_of(MODEL)),
    chunk_subject(digest_of(LARGE)),
    chunk_subject(chunks_name(digest_of(LARGE))),
    meta_subject(digest_of(MODEL)),
    meta_subject(digest_of(LARGE)),
    f"{LEASES}.{KEY}",
    f"{LEASES}.x",
    f"{DEAD}.letter.x",
    f"{DEAD}.taken.x",
    f"{DEAD}.x",
    f"{UPLOADS}.part.{digest_of(MODEL)[:2]}.{digest_of(MODEL)}",
    f"{UPLOADS}.entry.x",
    f"{REQUESTS}.r.0.7.0",
    "$JS.API.STREAM.PURGE.LABELLOOP",
    "$JS.API.STREAM.DELETE.OBJ_labelloop-artifacts",
]
HEADERS: list[Mapping[str, str]] = [
    {"Nats-Rollup": "all"},
    {"Nats-Rollup": "sub"},
    {"Nats-TTL": "1s"},
    {"Nats-Incr": "+1"},
    {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": LABEL},
    {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1", "Nats-Batch-Commit": "1"},
    {"Nats-Msg-Id": "m", "Nats-Expected-Last-Sequence": "0"},
    {"Nats-Expected-Stream": "OTHER"},
    {"Nats-Marker-Reason": "Purge", "KV-Operation": "PURGE"},
]
STORED = sum(not target.startswith("$JS") for target in TARGETS)
# What the last section of access.conf lets users remove, each with its own reason.
MAY_REMOVE = {"oracle": {"LABELLOOP_UPLOADS"}, "import": {"OBJ_labelloop-artifacts"}}


def allowed(user: str) -> list[str]:
    """Return the subjects that access.conf lets a user publish to."""
    text = (CONFIGS / "access.conf").read_text()
    [block] = re.findall(rf"^{user}_may: {{(.*?)^}}", text, re.DOTALL | re.MULTILINE)
    return re.findall(r'"([^"]+)"', block.partition("subscribe")[0])


def api(user: str) -> list[str]:
    return [subject for subject in allowed(user) if subject.startswith("$JS.API.")]


def bodies(subject: str, *, is_old: bool) -> Iterator[dict[str, Any]]:
    """Yield hostile bodies for a request, by what it asks for."""
    _, _, kind, verb, *_ = subject.split(".")
    stream = next((name for name in reversed(STREAMS) if f".{name}" in subject), "")
    if kind == "CONSUMER" and verb in ("CREATE", "DURABLE"):
        for target in TARGETS:
            for extra in ({}, {"flow_control": True, "idle_heartbeat": 10**8}, {"deliver_group": "g"}):
                config = {"deliver_subject": target, "ack_policy": "none", "deliver_policy": "all", **extra}
                yield {"stream_name": stream, "config": config}
        yield {"stream_name": stream, "config": {"durable_name": "d", "ack_policy": "explicit", "max_waiting": 1}}
    elif (kind, verb) == ("STREAM", "MSG"):
        yield {"seq": 1, "next_by_subj": ">", "batch": 1_000}
        yield {"multi_last": [">"], "no_erase": False}
    elif (kind, verb) == ("STREAM", "INFO"):
        yield {"deleted_details": True, "subjects_filter": ">", "offset": 2**62 if is_old else -1}
    elif (kind, verb) == ("STREAM", "NAMES"):
        yield {"offset": 2**62, "subject": ">"}
        if not is_old:  # nats-server 2.9 crashes, here and above; it does not take the settings of production either
            yield {"offset": -1, "subject": ">"}
    elif (kind, verb) == ("STREAM", "PURGE"):
        yield {"filter": "labelloop.v1.>", "keep": 0}
        yield {"seq": 2**63, "filter": "$O.>"}
        yield {}
    elif kind == "STREAM":  # CREATE and UPDATE, of the operator alone
        return
    yield {"config": {"name": stream, "max_msgs": 1, "sealed": True}, "no_wait": True}


def older_settings(access: Access, folder: Path) -> Access:
    """Return the settings without the one that nats-server 2.9 does not know."""
    folder.mkdir()
    for file in CONFIGS.glob("*.conf"):
        text = file.read_text().replace("  sync_interval: always\n", "")
        (folder / file.name).write_text(text)
    return Access(access.folder, folder / access.config.name, tls=False)


@dataclass(frozen=True)
class Victim:
    """A broker with something in each stream, and a connection of each user."""

    node: Node
    clients: Mapping[str, Client]

    async def stood(self) -> Stood:
        return await stood(self.clients["oracle"], STREAMS)


def binaries(installed: Path, folder: Path) -> Sequence[Path]:
    found = {version_of(binary): binary for binary in chain([installed], newer(folder))}
    return [found[version] for version in sorted(found)]


@pytest.fixture(params=["oldest", "newest"])
def binary(request: pytest.FixtureRequest, nats_binary: Path, tmp_path: Path) -> Path:
    found = binaries(nats_binary, tmp_path / "packages")
    if request.param == "newest" and len(found) == 1:
        pytest.skip("there is no second nats-server: name one with LABELLOOP_NEWER_NATS_SERVER")
    return found[0 if request.param == "oldest" else -1]


@pytest.fixture
async def victim(binary: Path, tmp_path: Path) -> AsyncIterator[Victim]:
    node = lone_node(binary, tmp_path)
    if version_of(binary) < VERSION_MIN:
        node.access = older_settings(node.access, tmp_path / "config")
    async with AsyncExitStack() as stack:
        stack.enter_context(running([node]))
        await node.ready()
        await make_streams(node)
        clients = {}
        for user in USERS:
            name = "trainer" if user == "import" else user
            clients[user] = await connect(node.url, name, nkey_file=node.access.seed(user))
            stack.push_async_callback(clients[user].close)
        await fill(clients)
        yield Victim(node, clients)


async def fill(clients: Mapping[str, Client]) -> None:
    """Store one thing of each kind."""
    oracle = clients["oracle"]
    await EventLog(clients["trainer"]).append_once(FINISHED)
    for data in (MODEL, LARGE):
        await JetStreamArtifacts(oracle).put(data)
    await Leases(oracle).take(KEY, "ann", 60)
    await DeadLetters(oracle).keep("nats", b"result", LETTER)
    await JetStreamUploads(oracle, UPLOAD_BYTES_MAX).put_part(digest_of(b"part"), b"part")
    await oracle.jetstream().publish(f"{REQUESTS}.r.0.7.1", b"{}")


async def send(client: Client, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    """Send a request and ignore what becomes of it."""
    with suppress(NatsError):  # refused or not answered
        await client.request(subject, body, timeout=0.5, headers=dict(headers) if headers else None)


def without(found: Stood, streams: set[str]) -> Stood:
    messages = {place: message for place, message in found.messages.items() if place[0] not in streams}
    return Stood(found.settings, messages)


@pytest.mark.parametrize("user", [user for user in USERS if user != "operator"])
async def test_no_request_of_a_service_changes_what_stands(victim: Victim, user: str) -> None:
    client, before = victim.clients[user], await victim.stood()
    is_old = version_of(victim.node.binary) < VERSION_MIN
    asked = [(subject.replace(">", "c"), body) for subject in api(user) for body in bodies(subject, is_old=is_old)]
    assert asked
    for i in range(0, len(asked), 50):
        batch = asked[i : i + 50]
        await asyncio.gather(*(send(client, subject, json.dumps(body).encode()) for subject, body in batch))
    await asyncio.sleep(0.5)  # what consumers deliver comes after the answers
    after = await victim.stood()
    removable = MAY_REMOVE.get(user, set())
    assert without(before, removable).still_stands_in(without(after, removable))
    assert before.new_in(after) == []


@pytest.mark.parametrize("user", ["trainer", "scorer", "oracle", "import"])
async def test_no_header_of_a_message_removes_what_stands(victim: Victim, user: str) -> None:
    client, before = victim.clients[user], await victim.stood()
    written = [
        subject
        for subject in allowed(user)
        if not subject.startswith(("$JS", "labelloop-replicas", "labelloop-hold-ups"))
    ]
    concrete = {subject.replace(">", "x").replace("*", "r") for subject in written}
    if "$O.labelloop-artifacts.>" in written:
        concrete |= {target for target in TARGETS if target.startswith("$O")}
    for headers in HEADERS:
        await asyncio.gather(*(send(client, subject, b"hostile", headers) for subject in concrete))
    assert before.still_stands_in(await victim.stood())


@pytest.mark.parametrize("user", ["scorer", "trainer"])
async def test_answers_of_the_broker_under_our_subjects_take_no_place_and_stop_nobody(
    victim: Victim, user: str
) -> None:
    """The broker lets every client choose where the answer to its request goes."""
    client, before = victim.clients[user], await victim.stood()
    for target in TARGETS:
        await client.publish("$JS.API.STREAM.NAMES", b"", reply=target)
    await client.flush()
    async with asyncio.timeout(PATIENCE_S):
        while len(before.new_in(await victim.stood())) < STORED:  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.05)
    oracle = victim.clients["oracle"]
    await check_events(oracle)
    await check_artifacts(oracle)
    await check_leases_and_letters(oracle)
    await check_uploads(oracle)


async def check_events(oracle: Client) -> None:
    log = EventLog(oracle)
    written = await log.append_once(FAILED)
    assert written.ours
    other = Event(run_id="r", round=0, run_failed=RunFailed(reason="another"))
    standing = await EventLog(oracle).append_once(other)
    assert (standing.event, standing.sequence, standing.ours) == (written.event, written.sequence, False)
    assert [seen.event for seen in await log.read_run("r")][-1] == written.event


async def check_artifacts(oracle: Client) -> None:
    for data in (MODEL, LARGE):
        assert await JetStreamArtifacts(oracle).get(digest_of(data)) == data
        assert await JetStreamArtifacts(oracle).get(await JetStreamArtifacts(oracle).put(data)) == data


async def check_leases_and_letters(oracle: Client) -> None:
    leases, letters = Leases(oracle), DeadLetters(oracle)
    following = [asyncio.create_task(each.follow()) for each in (leases, letters)]
    await until(lambda: len(letters.letters) == 1 and leases.lease(KEY).sequence > 0)
    assert await leases.take(KEY, "bea", 60) or await leases.take(KEY, "bea", 60)
    assert not any(each.done() for each in following)
    for each in following:
        each.cancel()
    await asyncio.gather(*following, return_exceptions=True)


async def check_uploads(oracle: Client) -> None:
    uploads = JetStreamUploads(oracle, UPLOAD_BYTES_MAX)
    await uploads.put_part(digest_of(MODEL), MODEL)
    assert await uploads.part(digest_of(MODEL)) == MODEL
    assert await uploads.entries() == []
