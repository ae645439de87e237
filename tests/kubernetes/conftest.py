"""Install labelloop once for all tests, in a namespace of its own, and take it away at the end."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from tests.blobs import Blobs, write_blobs
from tests.deploy.rendering import KUBERNETES, kubectl
from tests.kubernetes.installation import Installation
from tests.kubernetes.overlay import namespace_overlay, overlay

OPERATORS = ("cert-manager.io", "monitoring.coreos.com")


@pytest.fixture(scope="session")
def server() -> str:
    """The version of the cluster's server; skip where nobody asked for it, no cluster is named, or none answers."""
    if os.environ.get("LABELLOOP_KUBERNETES") != "1":
        pytest.skip("installs on the cluster of KUBECONFIG, an hour: make test-kubernetes")
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster to test on: see tests/kubernetes/README.md")
    command = [kubectl(), "version", "--output", "yaml", "--request-timeout=20s"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"the cluster of KUBECONFIG does not answer: {done.stderr.strip()}")
    return str(yaml.safe_load(done.stdout)["serverVersion"]["gitVersion"])


@pytest.fixture(scope="session")
def installed(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The overlay that LABELLOOP_KUBERNETES_OVERLAY names, by default production, applied and up."""
    name = os.environ.get("LABELLOOP_KUBERNETES_OVERLAY", "production")
    if name == "production" and (lacking := [each for each in OPERATORS if not serves(each)]):
        pytest.skip(f"the cluster lacks {', '.join(lacking)}: set LABELLOOP_KUBERNETES_OVERLAY=local, or install them")
    installation = Installation(f"labelloop-test-{secrets.token_hex(3)}", tmp_path_factory.mktemp("installed"), name)
    write(installation)
    try:
        installation.apply()
        installation.wait()
        yield installation
    finally:
        installation.kubectl("delete", "namespace", installation.namespace, "--ignore-not-found", "--wait=false")


def serves(group: str) -> bool:
    command = [kubectl(), "api-resources", "--api-group", group, "--output", "name"]
    return bool(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def write(installation: Installation) -> None:
    """Write the kustomizations into the installation's folder."""
    images = os.environ.get("LABELLOOP_KUBERNETES_IMAGES", "")
    for folder in ("overlay", "namespace"):
        (installation.folder / folder).mkdir()
    way = os.path.relpath(KUBERNETES, (installation.folder / "overlay").resolve())
    contents = {
        "overlay": overlay(way, installation.name, installation.namespace, images),
        "namespace": namespace_overlay(way, installation.namespace),
    }
    for folder, content in contents.items():
        (installation.folder / folder / "kustomization.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Blobs:
    return write_blobs(tmp_path_factory.mktemp("pool"))


@pytest.fixture
def production(installed: Installation) -> Installation:
    if not installed.is_production:
        pytest.skip("this is about three of each, with TLS: LABELLOOP_KUBERNETES_OVERLAY=production")
    return installed
