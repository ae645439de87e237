"""What a client gets who names files of the oracle's machine that are none of a pool."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import grpc
import numpy as np
import pytest
import pytest_asyncio
from labelloop.artifacts.opening import open_store
from labelloop.artifacts.store import JETSTREAM
from labelloop.errors import NotFound, from_rpc
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.events.v1.events_pb2 import DatasetSource, FeatureKind
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetRequest
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.stack import Stack, running

from oracle_svc.datasets.places import PATHS
from tests.blobs import Blobs, spec, write_blobs
from tests.e2e.driving import start

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = b"id,class\n0,cat\n1,dog\n"


class World:
    """Services whose runs may name files in ``pools``, and a client of theirs."""

    def __init__(self, stack: Stack, clients: Clients, pools: Path, blobs: Blobs) -> None:
        self.stack, self.clients, self.pools, self.blobs = stack, clients, pools, blobs

    async def refused(self, **named: str) -> str:
        source = self.blobs.source()
        source.MergeFrom(DatasetSource(**named))  # type: ignore[arg-type]
        with pytest.raises(grpc.aio.AioRpcError) as described:
            await self.clients.oracle.DescribeDataset(DescribeDatasetRequest(dataset=source))
        features = FeatureKind.FEATURE_KIND_GRAPH if "graph" in named else None
        with pytest.raises(grpc.aio.AioRpcError):
            await start(self.clients, "attack", spec(self.blobs, dataset=source, features=features))
        error = from_rpc(described.value)
        assert error
        return error.message

    async def stores(self, content: bytes) -> bool:
        broker = await connect_broker(self.stack.nats_url, "test")
        try:
            await open_store(JETSTREAM, broker).get(sha256(content).hexdigest())
        except NotFound:
            return False
        finally:
            await broker.close()
        return True


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory, nats_binary: Path) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("files")
    pools = folder / "pools"
    pools.mkdir()
    (pools / "truth.csv").write_bytes(SECRET)
    (folder / "secret.csv").write_bytes(SECRET)
    np.save(folder / "secret.npy", np.zeros((40, 4), np.float32))
    blobs = write_blobs(pools)
    async with running(folder / "store", pools_dir=pools) as stack, connect(stack.endpoints) as clients:
        yield World(stack, clients, pools, blobs)


@pytest.mark.parametrize("field", PATHS)
async def test_files_outside_the_folder_are_refused_alike_whether_they_exist(world: World, field: str) -> None:
    outside = world.pools.parent
    paths = [outside / "secret.csv", outside / "secret.npy", outside / "absent", "/etc/shadow", "/proc/self/environ"]
    said = {(await world.refused(**{field: str(path)})).replace(repr(str(path)), "PATH") for path in paths}
    assert len(said) == 1
    assert f"{field}: PATH lies outside" in said.pop()
    for content in (SECRET, (outside / "secret.npy").read_bytes()):
        assert not await world.stores(content)


async def test_a_file_of_the_folder_is_no_graph_and_not_kept(world: World) -> None:
    assert "truth.csv is no ONNX graph" in await world.refused(graph=str(world.pools / "truth.csv"))
    assert not await world.stores(SECRET)
