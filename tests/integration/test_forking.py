"""Services that tests fork behave like those that are started."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from labelloop.errors import InvalidInput
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.local.stack import Service

from tests.forking.client import ForkedProcess

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="services are forked on Linux alone")


def oracle(folder: Path, **settings: str) -> Service:
    return Service("oracle", folder, {f"LABELLOOP_{name.upper()}": value for name, value in settings.items()})


async def test_forked_service_ends_like_a_started_one(
    tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KMP_INIT_AT_FORK", "FALSE")  # as scikit-learn does when it is imported
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


async def test_invalid_setting_ends_the_service_with_a_message(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="LABELLOOP_REPLICAS: "):
        await oracle(tmp_path, replicas="none").start()


async def test_setting_read_at_interpreter_start_needs_a_process_of_its_own(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    service = Service("oracle", tmp_path, {"LABELLOOP_NATS_URL": nats_server.url, "PYTHONHASHSEED": "1"})
    await service.start()
    assert not isinstance(service.process, ForkedProcess)
    await service.stop()


async def test_cancelled_starts_do_not_prevent_later_ones(tmp_path: Path, nats_server: NatsServer) -> None:
    for turns in range(20):
        given_up = asyncio.create_task(oracle(tmp_path, nats_url=nats_server.url).start())
        for _ in range(turns):
            await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
    service = oracle(tmp_path, nats_url=nats_server.url)
    await service.start()
    await service.stop()
