"""Keys, certificates and secrets that the command makes."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from labelloop.errors import InvalidInput, NotAllowed, Unready, WrongState
from labelloop.eventlog.nkey import read_key
from labelloop_cli.local.cluster_secrets import Secrets, in_cluster
from labelloop_cli.operations import keys


def test_each_user_has_a_key_of_its_own(tmp_path: Path) -> None:
    keys.nats_(tmp_path)
    publics = {(tmp_path / f"{user}.public").read_text() for user in keys.USERS}
    assert len(publics) == len(keys.USERS)
    for user in keys.USERS:
        seed = tmp_path / f"{user}.seed"
        assert seed.stat().st_mode & 0o077 == 0
        assert read_key(seed).public == (tmp_path / f"{user}.public").read_text()


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
    """The Kubernetes API for creating Secrets."""

    def __init__(self, *, allowed: bool = True) -> None:
        self.secrets: dict[str, dict[str, str]] = {}
        self._allowed = allowed

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/v1/namespaces/here/secrets"
        secret = json.loads(request.content)
        if not self._allowed:
            return httpx.Response(403, text="secrets is forbidden")
        if secret["metadata"]["name"] in self.secrets:
            return httpx.Response(409)
        self.secrets[secret["metadata"]["name"]] = secret["data"]
        return httpx.Response(201)


def secrets(api: Api) -> Secrets:
    return Secrets(httpx.Client(base_url="https://api", transport=httpx.MockTransport(api)), "here")


def test_a_secret_is_created_once_and_not_replaced() -> None:
    api = Api()
    assert secrets(api).create("nkey-scorer", {"seed": b"first"})
    assert not secrets(api).create("nkey-scorer", {"seed": b"second"})
    assert base64.b64decode(api.secrets["nkey-scorer"]["seed"]) == b"first"


def test_a_pod_that_may_not_create_secrets_reports_it() -> None:
    with pytest.raises(NotAllowed, match="403: secrets is forbidden"):
        secrets(Api(allowed=False)).create("nkey-scorer", {})


def test_an_unreachable_kubernetes_api_raises_unready() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    client = httpx.Client(base_url="https://api", transport=httpx.MockTransport(away))
    with pytest.raises(Unready, match="refused"):
        Secrets(client, "here").create("nkey-scorer", {})


def test_outside_a_cluster_the_error_names_keys_nats(tmp_path: Path) -> None:
    with pytest.raises(WrongState, match="labelloop keys nats"), in_cluster(tmp_path):
        pass
