"""Folders of certificates: what is read, what a half renewed one leaves, and what a broker is handed."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from labelloop.errors import InvalidInput
from labelloop.rpc.certificates import Renewals, read
from labelloop.rpc.tls import ServerCertificates, certificate_ends
from labelloop_cli.local.broker_certificates import Broker, hand_over
from labelloop_cli.local.certificates import Pair, authority, issue

from tests.patience import PATIENCE_S

DAY = timedelta(days=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "tls", authority(9 * DAY), 3 * DAY)


def write(folder: Path, by: Pair, lifetime: timedelta) -> Path:
    folder.mkdir(exist_ok=True)
    pair = issue(by, "scorer", ["scorer"], lifetime)
    (folder / "ca.crt").write_bytes(by.certificate_pem)
    (folder / "tls.crt").write_bytes(pair.certificate_pem)
    (folder / "tls.key").write_bytes(pair.key_pem)
    return folder


def test_authorities_beside_the_own_one_are_trusted_too(folder: Path) -> None:
    (folder / "authorities").mkdir()
    more = [authority(DAY) for _ in range(3)]
    (folder / "authorities" / "current.crt").write_bytes(more[0].certificate_pem)
    (folder / "authorities" / "previous.crt").write_bytes(more[1].certificate_pem + more[2].certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=read(folder).authorities.decode())
    assert len(context.get_ca_certs()) == 4


def test_an_empty_authority_does_not_mean_those_of_the_system(folder: Path) -> None:
    (folder / "ca.crt").write_text("\n")
    with pytest.raises(InvalidInput, match=r"ca\.crt is empty"):
        read(folder)


def test_grpc_is_told_of_certificates_only_when_they_change(folder: Path) -> None:
    """It replaces what it is told without a lock: told at each connection, it aborts under many of them."""
    certificates = ServerCertificates(folder)
    assert [certificates.changed() for _ in range(3)] == [None] * 3
    write(folder, authority(9 * DAY), 2 * DAY)
    with ThreadPoolExecutor(8) as threads:
        told = [each for each in threads.map(lambda _: certificates.changed(), range(64)) if each is not None]
    assert told == [certificates.current]
    assert certificates.changed() is None


def test_a_half_renewed_folder_leaves_the_certificates_before(folder: Path) -> None:
    renewals = Renewals(folder)
    before = renewals.newest()
    (folder / "tls.key").write_bytes(authority(DAY).key_pem)
    assert renewals.newest() == before
    write(folder, authority(DAY), DAY)
    assert renewals.newest() == read(folder) != before


def test_the_metric_tells_when_each_certificate_expires(folder: Path) -> None:
    (folder / "authorities").mkdir()
    (folder / "authorities" / "previous.crt").write_bytes(authority(2 * DAY).certificate_pem)
    [metric] = certificate_ends(Renewals(folder))
    days = {
        sample.labels["certificate"]: (datetime.fromtimestamp(sample.value, UTC) - datetime.now(UTC)) / DAY
        for sample in metric.samples
    }
    assert metric.name == "labelloop_certificate_end_seconds"
    assert days == {"scorer": pytest.approx(3, abs=0.01), "labelloop development authority": pytest.approx(2, abs=0.01)}


def test_a_broker_is_handed_one_folder_of_files_that_fit(folder: Path, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    hand_over(read(folder), into)
    assert read(into / "current") == read(folder)
    assert (into / "current" / "tls.key").stat().st_mode & 0o077 == 0
    write(folder, authority(DAY), DAY)
    hand_over(read(folder), into)
    assert read(into / "current") == read(folder)
    assert len([path for path in into.iterdir() if not path.is_symlink()]) == 1


def test_a_start_that_was_cut_off_is_completed(folder: Path, tmp_path: Path) -> None:
    into = tmp_path / "into"
    (into / "draft").mkdir(parents=True)
    (into / "draft" / "ca.crt").write_text("half")
    (into / "link").symlink_to("nowhere")
    hand_over(read(folder), into)
    assert read(into / "current") == read(folder)


def test_a_broker_is_told_once_of_each_change_and_after_each_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: told.append((pid, number)))
    broker = Broker(tmp_path / "nats.pid")
    assert not broker.tell("a")
    for pid, name in (("", "a"), ("7", "a"), ("7", "a"), ("7", "b"), ("8", "b"), ("8", "b")):
        broker.pid_file.write_text(pid)
        broker.tell(name)
    assert told == [(7, signal.SIGHUP), (7, signal.SIGHUP), (8, signal.SIGHUP)]


def test_a_broker_that_ended_is_not_counted_as_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int, number: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    (tmp_path / "nats.pid").write_text("7")
    assert not Broker(tmp_path / "nats.pid").tell("a")


def test_the_command_follows_a_folder_until_it_is_stopped(folder: Path, tmp_path: Path) -> None:
    """As in the broker's pod: with a process that takes the signal, and a log of objects."""
    into, pid_file = tmp_path / "into", tmp_path / "nats.pid"
    into.mkdir()
    ends = "import signal; signal.sigwait([signal.SIGHUP])"
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])  # which the broker inherits: the signal waits for it
    broker = subprocess.Popen([sys.executable, "-c", ends])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
    pid_file.write_text(str(broker.pid))
    command = [sys.executable, "-m", "labelloop_cli", "keys", "follow", str(folder), str(into)]
    environment = {**os.environ, "LABELLOOP_LOG_FORMAT": "json"}
    with subprocess.Popen(
        [*command, "--pid-file", str(pid_file)], env=environment, stderr=subprocess.PIPE, text=True
    ) as following:
        assert broker.wait(PATIENCE_S) == 0  # told, after the files are there
        assert read(into / "current") == read(folder)
        following.terminate()
        _, said = following.communicate(timeout=PATIENCE_S)
    assert following.returncode == 0, said
    [line] = map(json.loads, said.splitlines())
    assert (line["event"], line["pid"]) == ("broker_told_of_certificates", broker.pid)
