"""The labelling page's port and secret between starts of `labelloop up --annotate`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from labelloop_cli.local.saved_page import keep_page, kept_page
from labelloop_cli.local.stack import Page

from tests.patience import PATIENCE_S

TOKEN = "a-token-of-ours"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "page.json"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_page_is_kept_for_its_owner_alone(file: Path) -> None:
    page = Page(free_port(), TOKEN)
    keep_page(file, page)
    assert file.stat().st_mode & 0o777 == 0o600
    kept = kept_page(file, port=None, first_port=1)
    assert (kept.page, kept.notes) == (page, ())
    assert [each.name for each in file.parent.iterdir()] == ["page.json"]


def test_a_file_that_others_could_read_is_replaced(file: Path) -> None:
    file.write_text("{}")
    file.chmod(0o644)
    keep_page(file, Page(1, TOKEN))
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_first_page_has_a_new_secret_and_the_first_port(file: Path) -> None:
    kept = kept_page(file, port=None, first_port=8080)
    assert kept.page.port == 8080
    assert len(kept.page.token) >= 20
    assert kept.notes == ()


def test_another_port_is_said(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        keep_page(file, Page(port, TOKEN))
        kept = kept_page(file)
    assert kept.page == Page(0, TOKEN)
    assert f"port {port}" in kept.notes[0]
    assert "links that were sent before do not work" in kept.notes[0]


def test_what_was_asked_for_wins(file: Path) -> None:
    keep_page(file, Page(free_port(), TOKEN))
    assert kept_page(file, port=81, token="another-token").page == Page(81, "another-token")
    assert kept_page(file, port=81).page == Page(81, TOKEN)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"port": 1}', '{"port": "1", "token": "12345678"}', '{"port": 1, "token": "short"}'],
)
def test_a_damaged_file_is_said_and_replaced(file: Path, text: str) -> None:
    file.write_text(text)
    kept = kept_page(file, port=None, first_port=8080)
    assert kept.page.port == 8080
    assert "cannot be read" in kept.notes[0]
    assert "links that were sent before do not work" in kept.notes[0]


def test_a_lost_file_is_said_in_a_store_that_was_used(file: Path) -> None:
    (file.parent / "nats").mkdir()
    assert "links that were sent before do not work" in kept_page(file).notes[0]
    assert kept_page(file, token=TOKEN).notes == ()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a command with its parent")
def test_a_command_ends_with_a_killed_parent() -> None:
    parent = (
        "import os, subprocess, sys\n"
        "from labelloop_cli.local.end_with_parent import ended_with_us\n"
        "command = ended_with_us([sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(600)'])\n"
        "subprocess.Popen(command).wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, env=dict(os.environ)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        process.kill()
        assert process.stdout.read() == b"", "the pipe closes once the command is gone too"
        process.wait(PATIENCE_S)
