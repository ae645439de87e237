"""`kubectl apply` of the overlays, by the real kubectl, against an API server on localhost that fills in defaults."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.deploy.fake_cluster import FakeCluster
from tests.deploy.fake_server import kubeconfig, serving
from tests.deploy.rendering import KUBERNETES, kubectl, render

OVERLAYS = ("local", "production")
# kubectl sends the selectors of budgets with every client-side apply (patchStrategy replace), changed or not.
ALWAYS_CONFIGURED = "poddisruptionbudget"


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with serving() as cluster:
        yield cluster


def run_kubectl(cluster: FakeCluster, folder: Path, *arguments: str, code: int = 0) -> str:
    """Run kubectl with caches of its own, and return what it prints."""
    config = kubeconfig(cluster, folder / "config")
    environment = {**os.environ, "HOME": str(folder), "KUBECONFIG": str(config)}
    command = [kubectl(), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def lines(said: str) -> dict[str, str]:
    """Return what kubectl says of each object."""
    return dict(line.split(maxsplit=1) for line in said.splitlines())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_second_client_side_apply_changes_nothing(overlay: str, cluster: FakeCluster, tmp_path: Path) -> None:
    apply = ("apply", "--validate=false", "-k", str(KUBERNETES / "overlays" / overlay))
    first = lines(run_kubectl(cluster, tmp_path, *apply))
    assert set(first.values()) == {"created"}
    before = dict(cluster.objects)
    second = lines(run_kubectl(cluster, tmp_path, *apply))
    assert {name: said for name, said in second.items() if said != "unchanged"} == {
        name: "configured" for name in first if name.startswith(ALWAYS_CONFIGURED)
    }
    assert cluster.objects == before


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_diff_after_an_apply_is_empty(overlay: str, cluster: FakeCluster, tmp_path: Path) -> None:
    folder = str(KUBERNETES / "overlays" / overlay)
    run_kubectl(cluster, tmp_path, "apply", "--validate=false", "-k", folder)
    assert run_kubectl(cluster, tmp_path, "diff", "-k", folder) == ""


def test_an_apply_that_lacks_a_default_is_told(cluster: FakeCluster, tmp_path: Path) -> None:
    """The server on localhost is of use: it tells a manifest that says less than it keeps."""
    deployment = next(each for each in render(KUBERNETES / "overlays" / "local") if each["kind"] == "Deployment")
    del deployment["spec"]["strategy"]["type"]
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(deployment))
    apply = ("apply", "--validate=false", "-f", str(tmp_path / "deployment.yaml"))
    run_kubectl(cluster, tmp_path, *apply)
    assert set(lines(run_kubectl(cluster, tmp_path, *apply)).values()) == {"configured"}


def test_deleting_an_overlay_leaves_namespace_claims_and_keys(cluster: FakeCluster, tmp_path: Path) -> None:
    for folder in ("namespace", "claims/pools", "overlays/production"):
        run_kubectl(cluster, tmp_path, "apply", "--validate=false", "-k", str(KUBERNETES / folder))
    cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "nkey-oracle", "namespace": "labelloop"}})
    run_kubectl(cluster, tmp_path, "delete", "--wait=false", "-k", str(KUBERNETES / "overlays/production"))
    assert set(cluster.objects) == {
        ("Namespace", "", "labelloop"),
        ("PersistentVolumeClaim", "labelloop", "pools"),
        ("Secret", "labelloop", "nkey-oracle"),
    }
