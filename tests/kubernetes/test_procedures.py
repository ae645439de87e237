"""The procedures of deploy/README.md on a cluster: rolls, drains, rotations, moving a run. Tests run in this order."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.blobs import IMAGE_BYTES, Blobs
from tests.deploy.readme import commands
from tests.deploy.rendering import kubectl
from tests.docker.stack import wait_until
from tests.kubernetes.installation import Installation
from tests.kubernetes.overlay import LABEL
from tests.kubernetes.test_installation import start

RUN = "procedures"
CALLING_S = 480
CALLER = Path(__file__).with_name("caller.py")
pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def run(installed: Installation, blobs: Blobs) -> str:
    start(installed, blobs, RUN)
    return RUN


@contextmanager
def under_calls(installed: Installation, run: str) -> Iterator[None]:
    """Call the scorers from the client's pod meanwhile; at the end no call has failed."""
    program = ("python", "-", "scorer:50052", run, str(IMAGE_BYTES), str(CALLING_S))
    command = [kubectl(), "--namespace", installed.namespace, "exec", "--stdin", "deployment/client", "--", *program]
    with CALLER.open("rb") as source, subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE) as calling:
        yield
        said, _ = calling.communicate(timeout=2 * CALLING_S)
    ended = json.loads(said)
    assert ended.keys() == {"OK"}, ended


def test_scorers_are_rolled_without_a_failed_call(installed: Installation, run: str) -> None:
    with under_calls(installed, run):
        installed.kubectl("rollout", "restart", "deployment", "scorer")
        installed.kubectl("rollout", "status", "deployment", "scorer", "--timeout=10m")


def test_a_node_is_drained_without_a_failed_call(production: Installation, run: str) -> None:
    """Of our pods alone: the node is closed to new ones meanwhile, others stay."""
    nodes = [pod["spec"]["nodeName"] for pod in production.pods("nats")]
    if len(set(nodes)) < 3:
        pytest.skip("the broker's nodes are on fewer than three machines")
    ours = f"{LABEL}={production.namespace}"
    try:
        with under_calls(production, run):
            drain = ("drain", nodes[0], "--pod-selector", ours, "--delete-emptydir-data", "--timeout=5m")
            production.kubectl(*drain)
    finally:
        production.kubectl("uncordon", nodes[0])
    production.wait()


def test_the_scorers_key_is_changed_without_a_failed_call(production: Installation, run: str) -> None:
    before = production.get("secret", "nkey-scorer")["data"]
    with under_calls(production, run):
        production.run_page(commands("Rotate", '"op": "move"'))
        production.run_page(commands("Rotate", '"op": "remove"'))
    after = production.get("secret", "nkey-scorer")["data"]
    assert after["public"] == before["next-public"]
    assert after["next-public"] not in before.values()


def both_are_trusted(production: Installation) -> bool:
    try:
        production.run_page(commands("Rotate", "cmp current.crt previous.crt"))
    except AssertionError:  # some pod has not got the new files yet
        return False
    return True


def test_the_authority_is_changed_without_a_failed_call(production: Installation, run: str) -> None:
    before = production.get("secret", "tls-authority")["data"]["tls.crt"]
    restarts = {pod["metadata"]["uid"]: pod["status"]["containerStatuses"] for pod in production.pods("nats")}
    with under_calls(production, run):
        production.run_page(commands("Rotate", "base64 -d"))
        wait_until(lambda: both_are_trusted(production), "all pods trust both authorities")
        production.run_page(commands("Rotate", "delete secret tls-nats"))
    assert production.get("secret", "tls-authority")["data"]["tls.crt"] != before
    for name in ("nats", "trainer", "scorer", "oracle", "client"):
        secret = production.get("secret", f"tls-{name}")["data"]
        assert secret["ca.crt"] == production.get("secret", "tls-authority")["data"]["tls.crt"]
    production.labelloop("run", "list")
    assert {pod["metadata"]["uid"] for pod in production.pods("nats")} == restarts.keys()


def test_a_run_is_exported_and_imported_with_every_label(production: Installation, run: str) -> None:
    """Into the same broker, where all of it is already: an import that changes nothing."""
    before = production.labels(run)
    production.run_page(commands("Back up and restore", "labelloop export").replace("RUN", run))
    assert (production.folder / "run.zip").stat().st_size > 0
    production.run_page(commands("Back up and restore", "patch deployment trainer"))
    production.wait()
    assert production.labels(run) == before
