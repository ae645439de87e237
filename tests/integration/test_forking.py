"""Services that tests have forked are as those that are started."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from labelloop.errors import WrongState
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.local.stack import Service

from tests.forking.client import ForkedProcess

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="services are forked on Linux alone")


def oracle(folder: Path, **settings: str) -> Service:
    return Service("oracle", folder, {f"LABELLOOP_{name.upper()}": value for name, value in settings.items()})


async def test_a_service_is_forked_and_ends_as_one_that_is_started(
    tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KMP_INIT_AT_FORK", "FALSE")  # as scikit-learn does where it is imported
    service = oracle(tmp_path, nats_url=nats_server.url)
    codes: list[int] = []
    for number in (signal.SIGTERM, signal.SIGKILL):
        await service.start()
        assert isinstance(service.process, ForkedProcess)
        assert service.process.returncode is None
        service.process.send_signal(number)
        codes.append(await service.process.wait())
        assert service.process.returncode == codes[-1]
    assert codes == [0, -9]


async def test_a_setting_that_is_refused_ends_it_with_a_line(tmp_path: Path) -> None:
    with pytest.raises(WrongState, match=r"the oracle ended; the end of .*\n.*LABELLOOP_REPLICAS"):
        await oracle(tmp_path, replicas="none").start()


async def test_what_is_read_as_a_library_is_loaded_needs_a_process_of_its_own(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    service = Service("oracle", tmp_path, {"LABELLOOP_NATS_URL": nats_server.url, "PYTHONHASHSEED": "1"})
    await service.start()
    assert not isinstance(service.process, ForkedProcess)
    await service.stop()


async def test_a_start_that_is_cancelled_keeps_no_other_from_starting(tmp_path: Path, nats_server: NatsServer) -> None:
    for turns in range(20):
        given_up = asyncio.create_task(oracle(tmp_path, nats_url=nats_server.url).start())
        for _ in range(turns):
            await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
    service = oracle(tmp_path, nats_url=nats_server.url)
    await service.start()
    await service.stop()
