"""Brokers with the production settings: sufficiently new nats-servers, and nodes that run them."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest
from labelloop.settings import ServiceSettings
from labelloop_cli.local.nats.port import HOST
from labelloop_cli.operations import keys
from labelloop_cli.operations.broker import update_streams

from tests.patience import PATIENCE_S

CONFIGS = Path(__file__).parents[2] / "deploy" / "nats"
CONFIG = CONFIGS / "nats-server.conf"
VERSION_MIN = (2, 10, 27)
_LOOK_EVERY_S = 0.02
UPLOAD_BYTES_MAX = 1_000_000


def version_of(binary: Path) -> tuple[int, ...]:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in re.findall(r"\d+", said)[:3])


def unpacked(folder: Path, into: Path) -> Iterator[Path]:
    """Unpack the nats-servers in the Debian packages of ``folder``, newest first; skip those that dpkg cannot read."""
    if shutil.which("dpkg") is None:
        return
    packages = folder.glob("nats-server_*.deb")
    for package in sorted(packages, key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)][:-1])[::-1]:
        tree = into / package.stem
        if subprocess.run(["dpkg", "-x", package, tree], capture_output=True, check=False).returncode == 0:
            yield from tree.glob("usr/*bin/nats-server")


def free_ports(count: int) -> list[int]:
    """Return distinct free ports; each is held until the last is found, so that they differ."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def public_keys(folder: Path) -> dict[str, str]:
    """Return the environment by which a broker knows the keys that `labelloop keys nats` wrote to ``folder``."""
    names = [f"{user}{kind}" for user in keys.USERS for kind in ("", "-next")]
    return {f"NATS_NKEY_{name.upper().replace('-', '_')}": (folder / f"{name}.public").read_text() for name in names}


@dataclass(frozen=True)
class Access:
    """The services' keys, and with TLS their certificates, as `labelloop keys` makes them."""

    folder: Path
    config: Path
    tls: bool

    def seed(self, user: str) -> Path:
        return self.folder / "nkeys" / f"{user}.seed"

    def tls_dir(self, name: str) -> Path | None:
        return self.folder / "tls" / name if self.tls else None

    @property
    def environment(self) -> dict[str, str]:
        users = public_keys(self.folder / "nkeys")
        if not self.tls:
            return users
        files = {"CERT": "tls.crt", "KEY": "tls.key", "CA": "ca.crt"}
        return users | {f"NATS_TLS_{what}": f"{self.tls_dir('nats')}/{file}" for what, file in files.items()}


def access(folder: Path, *, tls: bool = False) -> Access:
    """Return new keys, and the settings in the layout in which they are deployed."""
    keys.nats_(folder / "nkeys")
    config = CONFIG
    if tls:
        keys.tls(folder / "tls")
        config = folder / "config" / CONFIG.name
        shutil.copytree(CONFIGS, config.parent)
        for file in (CONFIGS / "tls").glob("*.conf"):
            shutil.copy(file, config.parent)
    return Access(folder, config, tls)


@dataclass
class Node:
    """One nats-server with the production files and its own environment."""

    binary: Path
    access: Access
    name: str
    folder: Path
    port: int
    monitor_port: int
    cluster_port: int
    routes: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'tls' if self.access.tls else 'nats'}://{HOST}:{self.port}"

    @property
    def log_file(self) -> Path:
        return self.folder / "log"

    @property
    def pid_file(self) -> Path:
        """Written by the server once it takes signals."""
        return self.folder / "nats.pid"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "NATS_NAME": self.name,
            "NATS_LISTEN": f"{HOST}:{self.port}",
            "NATS_MONITOR_LISTEN": f"{HOST}:{self.monitor_port}",
            "NATS_CLUSTER_LISTEN": f"{HOST}:{self.cluster_port}",
            "NATS_ROUTES": self.routes,
            "NATS_STORE_DIR": str(self.folder),
            "NATS_MAX_FILE_STORE": "1GB",
            **self.access.environment,
        }

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        with self.log_file.open("ab") as output:
            self.process = subprocess.Popen(
                [self.binary, "--config", self.access.config, "--pid", self.pid_file],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def send(self, what: signal.Signals) -> None:
        assert self.process is not None, "signals follow start"
        self.process.send_signal(what)

    def kill(self) -> None:
        """End it at once, as a lost machine would; safe to call at any time."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    async def ready(self) -> None:
        """Wait until its JetStream works."""
        assert self.process is not None, "ready follows start"
        async with asyncio.timeout(PATIENCE_S):
            while not await self._healthy():
                assert self.process.poll() is None, self.log_file.read_text()
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _healthy(self) -> bool:
        try:
            return (await self._get("healthz")).is_success
        except httpx.TransportError:  # not listening yet
            return False

    async def monitor(self, what: str) -> Any:
        """Return the response of the monitoring endpoint ``what``."""
        return (await self._get(what)).raise_for_status().json()

    async def _get(self, what: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://{HOST}:{self.monitor_port}/{what}")


def lone_node(binary: Path, folder: Path) -> Node:
    port, monitor_port = free_ports(2)
    return Node(binary, access(folder / "access"), "alone", folder / "alone", port, monitor_port, 0, "[]")


def three_nodes(binary: Path, folder: Path, *, tls: bool = False) -> list[Node]:
    ports = free_ports(9)
    routes = "[" + ", ".join(f"nats://{HOST}:{port}" for port in ports[6:]) + "]"
    listeners = zip(ports[:3], ports[3:6], ports[6:], strict=True)
    shared = access(folder / "access", tls=tls)
    return [
        Node(binary, shared, f"node-{i}", folder / str(i), *listener, routes=routes)
        for i, listener in enumerate(listeners)
    ]


@contextmanager
def running(nodes: list[Node]) -> Iterator[None]:
    """Start all nodes, and kill them at the end."""
    try:
        for node in nodes:
            node.start()
        yield
    finally:
        for node in nodes:
            node.kill()


async def make_streams(node: Node, replicas: int = 1) -> None:
    """Create and correct all streams as `labelloop broker update` does, with the operator's key."""
    await update_streams(
        ServiceSettings(
            nats_url=node.url,
            nats_nkey_file=node.access.seed("operator"),
            tls_dir=node.access.tls_dir("client"),
            replicas=replicas,
        ),
        UPLOAD_BYTES_MAX,
    )


def newer(into: Path) -> Iterator[Path]:
    """Yield nats-servers beside the installed one: LABELLOOP_NEWER_NATS_SERVER, then those packed beside the data."""
    into.mkdir(parents=True, exist_ok=True)
    if name := os.environ.get("LABELLOOP_NEWER_NATS_SERVER"):
        yield Path(name)
    if data_dir := os.environ.get("LABELLOOP_DATA_DIR"):
        yield from unpacked(Path(data_dir).parent / "nats", into)


def new_enough(installed: Path, into: Path) -> Path:
    """Return a nats-server that knows every setting: the installed one, LABELLOOP_NEWER_NATS_SERVER, or one from the
    packages beside the data; skip the test if there is none."""
    for candidate in chain([installed], newer(into)):
        if version_of(candidate) >= VERSION_MIN:
            return candidate
    wanted = ".".join(map(str, VERSION_MIN))
    pytest.skip(
        f"{installed} is older than {wanted}, which knows sync_interval, and there is no package of a newer one in "
        "the folder `nats` beside LABELLOOP_DATA_DIR: name one with LABELLOOP_NEWER_NATS_SERVER"
    )
