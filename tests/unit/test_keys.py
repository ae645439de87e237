"""Keys, certificates and secrets that the command makes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from labelloop.errors import InvalidInput, NotAllowed, Unready, WrongState
from labelloop.eventlog.nkey import UserKey, read_key
from labelloop_cli.local.cluster_secrets import Secrets, in_cluster
from labelloop_cli.operations import keys


def test_each_user_has_two_keys_of_its_own(tmp_path: Path) -> None:
    keys.nats_(tmp_path)
    names = [f"{user}{kind}" for user in keys.USERS for kind in ("", "-next")]
    assert len({(tmp_path / f"{name}.public").read_text() for name in names}) == len(names)
    for name in names:
        seed = tmp_path / f"{name}.seed"
        assert seed.stat().st_mode & 0o077 == 0
        assert read_key(seed).public == (tmp_path / f"{name}.public").read_text()


def test_certificates_are_for_the_service_and_the_hosts_given(tmp_path: Path) -> None:
    keys.tls(tmp_path, ["scorer.example", "10.0.0.1"], 7)
    authority = x509.load_pem_x509_certificate((tmp_path / "scorer" / "ca.crt").read_bytes())
    found = x509.load_pem_x509_certificate((tmp_path / "scorer" / "tls.crt").read_bytes())
    found.verify_directly_issued_by(authority)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["scorer", "localhost", "scorer.example"]
    assert [str(number) for number in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "10.0.0.1"]
    assert (found.not_valid_after_utc - found.not_valid_before_utc).days == 7
    assert (tmp_path / "scorer" / "tls.key").stat().st_mode & 0o077 == 0


def test_certificates_pass_strict_verification(tmp_path: Path) -> None:
    """As Python verifies them from 3.13 on."""
    keys.tls(tmp_path)
    authority = x509.load_pem_x509_certificate((tmp_path / "scorer" / "ca.crt").read_bytes())
    found = x509.load_pem_x509_certificate((tmp_path / "scorer" / "tls.crt").read_bytes())
    verifier = PolicyBuilder().store(Store([authority])).build_server_verifier(x509.DNSName("scorer"))
    assert verifier.verify(found, []) == [found, authority]


def test_existing_keys_and_certificates_are_not_overwritten(tmp_path: Path) -> None:
    keys.nats_(tmp_path / "nkeys")
    keys.tls(tmp_path / "tls")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for make, folder in ((keys.nats_, "nkeys"), (keys.tls, "tls")):
        with pytest.raises(InvalidInput, match="there already"):
            make(tmp_path / folder)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


class Api:
    """The Kubernetes API for Secrets. ``first`` is called before each write, as another pod that is faster."""

    def __init__(self, *, allowed: bool = True, first: Callable[[Api], None] = lambda _: None) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}
        self._allowed, self._first, self._version = allowed, first, 0

    def put(self, name: str, **data: bytes) -> None:
        self._version += 1
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        self.secrets[name] = {"metadata": {"name": name, "resourceVersion": str(self._version)}, "data": encoded}

    def data(self, name: str) -> dict[str, bytes]:
        return {key: base64.b64decode(value) for key, value in self.secrets[name]["data"].items()}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not self._allowed:
            return httpx.Response(403, text="secrets is forbidden")
        name = request.url.path.removeprefix("/api/v1/namespaces/here/secrets").removeprefix("/")
        if request.method == "GET":
            return httpx.Response(200, json=self.secrets[name]) if name in self.secrets else httpx.Response(404)
        self._first(self)
        sent = json.loads(request.content)
        there, name = self.secrets.get(sent["metadata"]["name"]), sent["metadata"]["name"]
        if (there or {"metadata": {}})["metadata"].get("resourceVersion") != sent["metadata"].get("resourceVersion"):
            return httpx.Response(409)
        self.put(name, **{key: base64.b64decode(value) for key, value in sent["data"].items()})
        return httpx.Response(201 if there is None else 200)


def secrets(api: Callable[[httpx.Request], httpx.Response]) -> Secrets:
    return Secrets(httpx.Client(base_url="https://api", transport=httpx.MockTransport(api)), "here")


PAIRS = ["next-public", "next-seed", "public", "seed"]


def test_a_secret_gets_two_pairs_of_keys_that_fit() -> None:
    api = Api()
    assert secrets(api).complete("nkey-scorer", keys.missing_nkeys) == PAIRS
    data = api.data("nkey-scorer")
    for prefix in ("", "next-"):
        assert UserKey(data[f"{prefix}seed"]).public.encode() == data[f"{prefix}public"]
    assert data["seed"] != data["next-seed"]


def test_keys_that_exist_stay_and_the_missing_pair_is_added() -> None:
    api = Api()
    seed, public = keys.new_nkey()
    api.put("nkey-scorer", seed=seed, public=public)
    assert secrets(api).complete("nkey-scorer", keys.missing_nkeys) == ["next-public", "next-seed"]
    assert (api.data("nkey-scorer")["seed"], api.data("nkey-scorer")["public"]) == (seed, public)
    assert secrets(api).complete("nkey-scorer", keys.missing_nkeys) == []


@pytest.mark.parametrize("had", [(), ("seed", "public")], ids=["none", "one-pair"])
def test_a_pod_that_was_slower_reads_again_and_changes_nothing(had: tuple[str, ...]) -> None:
    full = dict(zip(PAIRS, [*reversed(keys.new_nkey()), *reversed(keys.new_nkey())], strict=True))
    api = Api(first=lambda api: api.put("nkey-scorer", **full))
    if had:
        api.put("nkey-scorer", **{key: full[key] for key in had})
    assert secrets(api).complete("nkey-scorer", keys.missing_nkeys) == []
    assert api.data("nkey-scorer") == full


def test_a_secret_that_others_keep_changing_is_given_up() -> None:
    api = Api(first=lambda api: api.put("nkey-scorer", other=b"1"))
    with pytest.raises(Unready, match="changed by others"):
        secrets(api).complete("nkey-scorer", keys.missing_nkeys)


def test_a_lost_public_key_is_computed_from_its_seed() -> None:
    seed, public = keys.new_nkey()
    assert keys.missing_nkeys({"seed": seed + b"\n", "next-seed": seed, "next-public": public}) == {"public": public}


@pytest.mark.parametrize("had", [{"public": b"U"}, {"seed": b"S"}], ids=["no-seed", "no-nkey"])
def test_a_secret_without_a_usable_seed_is_refused(had: dict[str, bytes]) -> None:
    with pytest.raises(WrongState, match="remove that key"):
        keys.missing_nkeys(had)


def test_a_pod_that_may_not_touch_secrets_reports_it() -> None:
    with pytest.raises(NotAllowed, match="403: secrets is forbidden"):
        secrets(Api(allowed=False)).complete("nkey-scorer", keys.missing_nkeys)


def test_an_unreachable_or_failing_kubernetes_api_raises_unready() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    for api, said in ((away, "refused"), (lambda _: httpx.Response(503, text="no etcd"), "no etcd")):
        with pytest.raises(Unready, match=said):
            secrets(api).complete("nkey-scorer", keys.missing_nkeys)


def test_outside_a_cluster_the_error_names_keys_nats(tmp_path: Path) -> None:
    with pytest.raises(WrongState, match="labelloop keys nats"), in_cluster(tmp_path):
        pass
