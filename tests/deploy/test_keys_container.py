"""The broker's init container `keys`, against an API server on localhost: what it makes, and what a race leaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from labelloop_cli.operations import keys

from tests.deploy.fake_cluster import FakeCluster
from tests.deploy.fake_server import serving

PODS = 3


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """A pod's account, as it is projected into the container."""
    keys.tls(tmp_path / "tls")
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("token\n")
    (account / "namespace").write_text("labelloop")
    (account / "ca.crt").write_bytes((tmp_path / "tls" / "nats" / "ca.crt").read_bytes())
    return account


@pytest.fixture
def cluster(tmp_path: Path, account: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    with serving(tmp_path / "tls" / "nats") as cluster:
        host, port = cluster.address.removeprefix("https://").split(":")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
        yield cluster


def secrets_of(cluster: FakeCluster) -> dict[str, dict[str, str]]:
    return {name: each["data"] for (kind, _, name), each in cluster.objects.items() if kind == "Secret"}


def test_the_first_pod_makes_all_keys_and_the_next_changes_nothing(cluster: FakeCluster, account: Path) -> None:
    keys.cluster(account)
    made = secrets_of(cluster)
    assert {name: set(data) for name, data in made.items()} == {
        f"nkey-{user}": {"seed", "public", "next-seed", "next-public"} for user in keys.USERS
    }
    writes = len([each for each in cluster.requests if each.writes])
    keys.cluster(account)
    assert len([each for each in cluster.requests if each.writes]) == writes
    assert secrets_of(cluster) == made


def test_three_pods_at_once_make_each_key_once(cluster: FakeCluster, account: Path) -> None:
    together = threading.Barrier(PODS)

    def pod() -> dict[str, dict[str, str]]:
        together.wait()
        keys.cluster(account)
        return secrets_of(cluster)

    with ThreadPoolExecutor(PODS) as pods:
        seen = [running.result() for running in [pods.submit(pod) for _ in range(PODS)]]
    assert seen[0] == seen[1] == seen[2] == secrets_of(cluster)


def test_a_retired_key_is_replaced_and_the_key_in_use_stays(cluster: FakeCluster, account: Path) -> None:
    keys.cluster(account)
    before = secrets_of(cluster)["nkey-scorer"]
    cluster.get("Secret", "nkey-scorer")["data"] = {key: before[key] for key in ("seed", "public")}
    keys.cluster(account)
    after = secrets_of(cluster)["nkey-scorer"]
    assert {key: after[key] for key in ("seed", "public")} == {key: before[key] for key in ("seed", "public")}
    assert after["next-seed"] != before["next-seed"]
