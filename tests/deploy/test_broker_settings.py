"""The broker's settings as they are rendered, checked by a real nats-server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from labelloop_cli.operations import keys

from tests.deploy.manifests import of_kind
from tests.deploy.rendering import KUBERNETES, Manifest, render
from tests.integration.production_broker import new_enough, public_keys

TLS = {"CERT": "tls.crt", "KEY": "tls.key", "CA": "ca.crt"}


def data_of(manifests: list[Manifest], name: str) -> dict[str, str]:
    [found] = [each for each in of_kind(manifests, "ConfigMap") if each["metadata"]["name"].startswith(f"{name}-")]
    data: dict[str, str] = found["data"]
    return data


@pytest.mark.parametrize(("overlay", "tls"), [("local", False), ("production", True)])
def test_nats_server_accepts_the_settings(overlay: str, tls: bool, nats_binary: Path, tmp_path: Path) -> None:
    binary = new_enough(nats_binary, tmp_path / "packages")
    manifests = render(KUBERNETES / "overlays" / overlay)
    files, environment = data_of(manifests, "nats-config"), data_of(manifests, "nats-env")
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    keys.nats_(tmp_path / "nkeys")
    environment |= public_keys(tmp_path / "nkeys")
    assert tls == ({f"NATS_TLS_{what}" for what in TLS} <= environment.keys()) == ("tls {" in files["tls.conf"])
    if tls:
        keys.tls(tmp_path / "tls")
        environment |= {f"NATS_TLS_{what}": f"{tmp_path}/tls/nats/{file}" for what, file in TLS.items()}
    command = [str(binary), "-t", "-c", str(tmp_path / "nats-server.conf")]
    tested = subprocess.run(
        command, env={"NATS_NAME": "nats-0", **environment}, capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stderr
    assert "is valid" in tested.stderr
