"""Fixtures for one engine, set of images and stack, which all tests share and leave running."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from tests.blobs import Blobs, write_blobs
from tests.docker.engine import Engine, EngineFailed, missing
from tests.docker.stack import SERVICES, Stack, compose_command
from tests.docker.supplies import ROOT, base_image, broker_image, wheels_served
from tests.integration.production_broker import new_enough

IMAGES = (*SERVICES, "cli")


def image(name: str) -> str:
    return f"labelloop/{name}:0.2.0"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    if os.environ.get("LABELLOOP_DOCKER") != "1":
        pytest.skip("builds images and runs them, ten minutes: make test-docker")
    if lacking := missing():
        pytest.skip(
            f"no Docker engine of its own without {', '.join(lacking)} (Debian: docker.io iptables debootstrap)"
        )
    engine = Engine(Path(tempfile.mkdtemp(prefix="labelloop-docker-")))
    try:
        try:
            engine.start()
        except EngineFailed as error:
            pytest.skip(f"dockerd does not start here: {error}")
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def cache() -> Path:
    folder = user_cache_path("labelloop") / "docker"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def images(engine: Engine, cache: Path) -> Engine:
    """The engine with all images, built as documented, except that pip uses a local index for the locked packages."""
    base_image(engine, cache)
    with wheels_served(engine, cache) as pip_options:
        for name in reversed(IMAGES):  # the classic builder builds all stages before the target: all with the last one
            engine.docker(
                *("build", "--file", ROOT / "deploy" / "docker" / "Dockerfile", "--target", name),
                *("--network", "host", "--build-arg", f"PIP_OPTIONS={pip_options}", "--tag", image(name), ROOT),
            )
    return engine


@pytest.fixture(scope="session")
def broker(nats_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_enough(nats_binary, tmp_path_factory.mktemp("nats"))


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Blobs:
    folder = tmp_path_factory.mktemp("data")
    folder.chmod(0o755)  # read by user 65532
    return write_blobs(folder)


@pytest.fixture(scope="session")
def stack(images: Engine, broker: Path, blobs: Blobs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All services of compose.yaml, running."""
    command = compose_command()
    if command is None:
        pytest.skip("no docker compose (the plugin, or the program docker-compose)")
    broker_image(images, broker, "nats:2.12.7")
    stack = Stack(images, command, tmp_path_factory.mktemp("compose"), blobs.samples.parent)
    try:
        stack.up()
        yield stack
    finally:
        print(stack.compose("logs", "--no-color"))
        stack.compose("down", "--volumes", "--timeout", "5")


@pytest.fixture(scope="session")
def run_id(stack: Stack, blobs: Blobs) -> str:
    """The id of a finished run over the blobs, through all services."""
    files = {name: f"/data/{getattr(blobs, name).name}" for name in ("labels", "evaluation", "evaluation_labels")}
    options = [part for name, path in files.items() for part in (f"--{name.replace('_', '-')}", path)]
    sizes = ["--batch-size", "5", "--budget", "30", "--auto-label", "10"]
    stack.command("run", "start", f"/data/{blobs.samples.name}", *options, *sizes, "--run-id", "contained")
    return "contained"
