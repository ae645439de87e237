"""Artifacts and pools in S3, simulated by moto."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from labelloop.artifacts.fsspec_store import FsspecArtifacts
from labelloop.artifacts.opening import wait_until_usable
from labelloop.artifacts.store import digest_of
from labelloop.domain.remote_urls import parsed_prefixes
from labelloop.errors import InvalidInput, NotAllowed, NotFound, Unready, WrongState
from labelloop.trainer.v1.trainer_pb2 import Phase
from labelloop_cli.clients import connect
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.local.stack import Service, running

from oracle_svc.folder_cache import FolderCache
from oracle_svc.remote.cache import RemoteCache
from oracle_svc.remote.sources import Sources
from tests.blobs import spec, write_blobs
from tests.e2e.driving import finish, start
from tests.patience import PATIENCE_S
from tests.queues.all_tools import only_with_all_tools
from tests.queues.object_storage import Bucket
from tests.queues.sqs_tool import MotoProcess

pytest.importorskip("moto.server", reason="moto, flask or flask-cors is not installed")
pytest.importorskip("s3fs", reason="s3fs is not installed")
pytestmark = only_with_all_tools()

ALWAYS = 1_000_000


@pytest.fixture(scope="module")
def moto_process() -> Iterator[MotoProcess]:
    moto = MotoProcess()
    yield moto
    moto.stop()


@pytest.fixture
def moto(moto_process: MotoProcess, monkeypatch: pytest.MonkeyPatch) -> MotoProcess:
    moto_process.up()  # a failed test may have left it down
    moto_process.refuse(200, 0)
    for name, value in moto_process.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    return moto_process


@pytest.fixture
def bucket(moto: MotoProcess) -> Iterator[Bucket]:
    with closing(Bucket(moto)) as bucket:
        yield bucket


@pytest.fixture
def store(bucket: Bucket) -> FsspecArtifacts:
    return FsspecArtifacts(f"{bucket.url}/artifacts")


@pytest.fixture
def pools(bucket: Bucket, tmp_path: Path) -> RemoteCache:
    prefixes = parsed_prefixes(bucket.url)
    return RemoteCache(FolderCache(tmp_path / "copies", 1_000_000), prefixes, Sources(prefixes))


async def test_an_artifact_put_twice_is_one_object(store: FsspecArtifacts, bucket: Bucket) -> None:
    digest = await store.put(b"a model")
    await store.put(b"a model")
    assert await store.get(digest) == b"a model"
    assert bucket.keys() == [f"artifacts/{digest}"]


async def test_an_artifact_of_another_process_is_seen_at_once(store: FsspecArtifacts, bucket: Bucket) -> None:
    await store.put(b"first")
    store._fs.ls(f"{bucket.name}/artifacts")  # which fsspec would remember
    second = f"artifacts/{digest_of(b'second')}"
    with pytest.raises(NotFound):
        await store.get(digest_of(b"second"))
    bucket.put(second, b"second", by="another")
    assert await store.get(digest_of(b"second")) == b"second"
    await store.put(b"second")
    assert bucket.head(second)["Metadata"] == {"by": "another"}  # it was not written again


async def test_a_damaged_artifact_is_replaced(store: FsspecArtifacts, bucket: Bucket) -> None:
    digest = await store.put(b"a model")
    bucket.put(f"artifacts/{digest}", b"A model")
    await store.put(b"a model")
    assert await store.get(digest) == b"a model"


async def test_a_large_artifact_is_put_in_parts(store: FsspecArtifacts, bucket: Bucket) -> None:
    data = np.random.default_rng(1).bytes(101 * 2**20)
    digest = await store.put(data)
    assert bucket.head(f"artifacts/{digest}")["ETag"].strip('"').endswith("-3")
    assert await store.get(digest) == data


async def test_a_passing_fault_is_not_noticed(store: FsspecArtifacts, moto: MotoProcess) -> None:
    for status in (503, 500):
        moto.refuse(status, 2)
        digest = await store.put(str(status).encode())
        moto.refuse(status, 2)
        assert await store.get(digest) == str(status).encode()


async def test_a_store_that_fails_or_is_away_can_be_used_afterwards(store: FsspecArtifacts, moto: MotoProcess) -> None:
    digest = await store.put(b"a model")
    moto.refuse(503, ALWAYS)
    with pytest.raises(Unready, match=r"the artifact store at .* fails"):
        await store.put(b"another")
    moto.refuse(200, 0)
    moto.down()
    for work in (store.put(b"another"), store.get(digest)):
        with pytest.raises(Unready, match=r"fails: .*Connection was closed"):
            await work
    moto.up()
    assert await store.get(await store.put(b"another")) == b"another"


async def test_a_bucket_that_vanishes_is_trouble_not_a_missing_artifact(moto: MotoProcess) -> None:
    store = FsspecArtifacts("s3://no-such-bucket/artifacts")
    for work in (store.put(b"a model"), store.get("0" * 64)):
        with pytest.raises(Unready, match="bucket does not exist"):
            await work


async def test_a_store_that_hangs_holds_up_nothing_else(moto: MotoProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        store = FsspecArtifacts("s3://bucket/artifacts")
        putting = [asyncio.create_task(store.put(bytes([number]))) for number in range(40)]
        for _ in range(40):  # as many as there may be threads
            await asyncio.to_thread(lambda: None)
        assert not any(task.done() for task in putting)
        for task in putting:
            task.cancel()
    await asyncio.gather(*putting, return_exceptions=True)


@pytest.mark.parametrize("writing", [True, False])
async def test_a_check_names_the_setting_for_a_bucket_that_is_missing_or_refuses(
    moto: MotoProcess, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, writing: bool
) -> None:
    missing = FsspecArtifacts("s3://no-such-bucket/artifacts")
    with pytest.raises(InvalidInput, match=r"^LABELLOOP_ARTIFACTS_URL=s3://no-such-bucket/artifacts .*no bucket"):
        await missing.check(writing=writing)
    moto.refuse(403, ALWAYS)
    with pytest.raises(InvalidInput, match=r"^LABELLOOP_ARTIFACTS_URL=s3://.*must be able to"):
        await FsspecArtifacts(bucket.url).check(writing=writing)
    moto.refuse(200, 0)
    await FsspecArtifacts(bucket.url).check(writing=writing)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nowhere")
    with pytest.raises(InvalidInput, match=r"LABELLOOP_ARTIFACTS_URL=.*nowhere"):
        await FsspecArtifacts(bucket.url).check(writing=writing)


async def test_only_services_that_write_write_when_they_check(store: FsspecArtifacts, bucket: Bucket) -> None:
    await store.check(writing=False)
    assert bucket.keys() == []
    await store.check(writing=True)
    await store.check(writing=False)
    assert len(bucket.keys()) == 1


async def test_a_store_that_is_away_is_waited_for(
    store: FsspecArtifacts, moto: MotoProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    moto.down()
    waiting = asyncio.create_task(wait_until_usable(store, writing=True))
    said = ""
    async with asyncio.timeout(PATIENCE_S):
        while "artifact_store_unreachable" not in said:
            said += capsys.readouterr().out
            await asyncio.sleep(0.05)
    assert not waiting.done()
    moto.up()
    await waiting
    assert "artifact_store_reachable" in capsys.readouterr().out


def test_a_process_that_forks_after_using_a_store_can_open_it_again(bucket: Bucket) -> None:
    script = f"""
import asyncio, os
from labelloop.artifacts.fsspec_store import FsspecArtifacts
url = "{bucket.url}/artifacts"
digest = asyncio.run(FsspecArtifacts(url).put(b"parent"))
pid = os.fork()
if not pid:
    found = asyncio.run(FsspecArtifacts(url).get(digest))
    asyncio.run(FsspecArtifacts(url).put(b"child"))
    os._exit(found != b"parent")
assert os.waitpid(pid, 0)[1] == 0
assert asyncio.run(FsspecArtifacts(url).get("{digest_of(b"child")}")) == b"child"
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=PATIENCE_S)
    assert len(bucket.keys()) == 2


@pytest.mark.parametrize("name", ["trainer", "scorer", "oracle"])
async def test_a_service_ends_with_a_sentence_if_its_bucket_is_missing(
    name: str, moto: MotoProcess, nats_server: NatsServer, tmp_path: Path
) -> None:
    settings = {"LABELLOOP_NATS_URL": nats_server.url, "LABELLOOP_ARTIFACTS_URL": "s3://no-such-bucket/artifacts"}
    service = Service(name, tmp_path, settings)
    with pytest.raises(
        WrongState, match=rf"(?s)the {name} ended.*\n.*{name}: LABELLOOP_ARTIFACTS_URL=.*no bucket"
    ) as ended:
        await service.start()
    assert "Traceback" not in str(ended.value)


async def test_a_service_is_ready_once_its_store_is(
    bucket: Bucket, moto: MotoProcess, nats_server: NatsServer, tmp_path: Path
) -> None:
    settings = {"LABELLOOP_NATS_URL": nats_server.url, "LABELLOOP_ARTIFACTS_URL": f"{bucket.url}/artifacts"}
    service = Service("scorer", tmp_path, settings | {"LABELLOOP_CACHE_DIR": str(tmp_path / "cache")})
    moto.down()
    starting = asyncio.create_task(service.start())
    async with asyncio.timeout(PATIENCE_S):
        while not service.log_file.exists() or "artifact_store_unreachable" not in service.log_file.read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert not service.ready_file.exists()
    moto.up()
    await starting
    await service.stop()


async def test_a_folder_in_a_bucket_is_copied_as_it_is_now(bucket: Bucket, pools: RemoteCache) -> None:
    files = {f"{kind}/{number}": f"{kind}{number}".encode() for kind in ("cat", "dog") for number in range(8)}
    for name, data in files.items():
        bucket.put(f"sets/pets/{name}", data)
    bucket.put("sets/pets/", b"")  # as consoles make folders
    bucket.put("sets/petsy/1", b"of another folder")
    folder = await pools.path(f"{bucket.url}/sets/pets", "name")
    assert _files(folder) == files
    assert await pools.path(f"{bucket.url}/sets/pets/", "name") == folder
    bucket.put("sets/pets/cat/8", b"new")
    bucket.delete("sets/pets/dog/0")
    changed = files | {"cat/8": b"new"}
    del changed["dog/0"]
    assert _files(await pools.path(f"{bucket.url}/sets/pets", "name")) == changed


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_a_large_object_is_copied_in_blocks(bucket: Bucket, tmp_path: Path) -> None:
    data = np.random.default_rng(1).bytes(20 * 2**20 + 5)
    prefixes = parsed_prefixes(bucket.url)
    pools = RemoteCache(FolderCache(tmp_path, 30 * 2**20), prefixes, Sources(prefixes))
    assert (await pools.path(bucket.put("pool.npy", data), "name")).read_bytes() == data


async def test_trouble_with_a_pool_in_a_bucket_is_a_sentence(
    bucket: Bucket, moto: MotoProcess, pools: RemoteCache, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match=rf"^labels: there is no '{bucket.url}/absent'"):
        await pools.path(f"{bucket.url}/absent", "labels")
    prefixes = parsed_prefixes("s3://no-such-bucket")
    elsewhere = RemoteCache(FolderCache(tmp_path, 10), prefixes, Sources(prefixes))
    for url in ("s3://no-such-bucket/x", "s3://no-such-bucket"):
        with pytest.raises(NotFound, match=r"^name: there is no "):
            await elsewhere.path(url, "name")
    moto.refuse(403, ALWAYS)
    with pytest.raises(NotAllowed, match=r"^name: .*credentials"):
        await pools.path(f"{bucket.url}/x", "name")
    moto.refuse(503, ALWAYS)
    with pytest.raises(Unready, match=r"^name: .*cannot be read now"):
        await pools.path(f"{bucket.url}/x", "name")
    moto.refuse(200, 0)
    moto.down()
    with pytest.raises(Unready, match=r"^name: .*cannot be read now"):
        await pools.path(f"{bucket.url}/x", "name")


async def test_a_run_reads_its_pool_from_s3_and_keeps_its_artifacts_there(
    bucket: Bucket, tmp_path: Path, nats_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELLOOP_ARTIFACTS_URL", f"{bucket.url}/artifacts")
    monkeypatch.setenv("LABELLOOP_REMOTE_POOLS", f"{bucket.url}/sets/")
    monkeypatch.setenv("LABELLOOP_CACHE_DIR", str(tmp_path / "cache"))
    blobs = write_blobs(tmp_path)
    wanted = spec(blobs)
    for name in ("name", "labels", "evaluation", "evaluation_labels"):
        path = Path(getattr(wanted.dataset, name))
        setattr(wanted.dataset, name, bucket.put(f"sets/{path.name}", path.read_bytes()))
    async with running(tmp_path / "store") as stack, connect(stack.endpoints) as clients:
        await start(clients, "remote", wanted)
        remote = await finish(clients, "remote")
        assert remote.run.phase == Phase.PHASE_FINISHED, remote.run.message
        kept = bucket.keys()
        assert len([key for key in kept if key.startswith("artifacts/")]) > remote.run.planned_rounds
        await start(clients, "local", spec(blobs))
        assert (await finish(clients, "local")).run.phase == Phase.PHASE_FINISHED
    assert bucket.keys() == kept  # the same samples, labels and models, byte for byte
