"""Setup that tests share: arithmetic on one thread, and a real broker for each test."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import structlog
from hypothesis import settings
from labelloop_cli.local import stack
from labelloop_cli.local.nats.binary import GIVEN, find_or_get
from labelloop_cli.local.nats.server import NatsServer
from platformdirs import user_cache_path
from threadpoolctl import threadpool_limits

from tests.forking.client import ForkServer
from tests.integration.production_broker import newer

pytest_plugins = ["tests.required", "pytester"]

# Hypothesis fails an example that takes 200 ms, as any example may on a busy machine.
settings.register_profile("labelloop", deadline=None)
settings.load_profile("labelloop")

# A shell's background job (`make test &`) ignores SIGINT, and so would every process that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure() -> None:
    """Let runs name files wherever tests make them, and test with the broker that was asked for.

    With LABELLOOP_NEWEST_BROKER that is the newest nats-server at hand.
    """
    os.environ[stack.POOLS_DIR] = "/"
    if os.environ.get("LABELLOOP_NEWEST_BROKER"):
        found = next(newer(user_cache_path("labelloop") / "brokers"), None)
        if found is None:
            raise pytest.UsageError("LABELLOOP_NEWEST_BROKER is set, but LABELLOOP_NEWER_NATS_SERVER names none")
        os.environ[GIVEN] = str(found)


def pytest_collection_finish() -> None:
    """Run the arithmetic of this process on one thread, as the services do.

    On matrices as small as those of the tests, threads that wait for each other take three times the processor time.
    Processes that tests start are not affected: they set their own number of threads.
    """
    threadpool_limits(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


class ModuleWithoutTorch(pytest.Module):
    """A module of tests on a machine without PyTorch: skipped if its import fails for that reason."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            cause = error.__cause__
            if isinstance(cause, ModuleNotFoundError) and cause.name == "torch":
                pytest.skip("PyTorch is not installed, which the trainer computes with")
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if find_spec("torch"):
        return None
    return ModuleWithoutTorch.from_parent(parent, path=module_path)


@pytest.fixture(scope="session", autouse=True)
def _services_are_forked() -> Iterator[None]:
    """Fork services on Linux. Elsewhere start processes: macOS forbids a fork after its libraries were loaded."""
    if sys.platform != "linux":
        yield
        return
    server = ForkServer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack, "launch", server.launch)
        yield
    server.close()


@pytest.fixture(scope="session")
def nats_binary() -> Path:
    """The nats-server to test with: LABELLOOP_NATS_SERVER, else the one that ``labelloop up`` would use."""
    return find_or_get(user_cache_path("labelloop"))


@pytest.fixture
async def nats_server(nats_binary: Path, tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A running broker with an empty store, on a port of its own; stopped after the test."""
    async with NatsServer(nats_binary, tmp_path / "nats") as server:
        yield server


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Undo what a command that a test calls in this process sets for logs: other tests would lose lines to it."""
    before, handlers = structlog.get_config(), [*logging.getLogger().handlers]
    yield
    structlog.configure(**before)
    logging.getLogger().handlers[:] = handlers
