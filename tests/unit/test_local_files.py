"""Which files of this machine an upload consists of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from labelloop.artifacts.upload_manifest import PART_BYTES
from labelloop.errors import InvalidInput, LimitExceeded, NotFound
from labelloop_cli.operations import local_files as module
from labelloop_cli.operations.addresses import is_this_machine
from labelloop_cli.operations.local_files import LocalFile, described, local_files, read_part

from tests.memory_uploads import uploaded


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "1.png").write_bytes(b"one")
    (folder / "2.png").write_bytes(b"two!")
    return folder


def test_names_begin_with_the_folder_and_hidden_files_are_counted(pets: Path) -> None:
    (pets / ".DS_Store").write_bytes(b"x")
    (pets / ".git").mkdir()
    (pets / ".git" / "head").write_bytes(b"x")
    files, hidden = local_files(pets)
    assert {(file.name, file.size) for file in files} == {("pets/cat/1.png", 3), ("pets/2.png", 4)}
    assert hidden == 2


def test_a_file_has_its_own_name(pets: Path) -> None:
    assert local_files(pets / "2.png") == ([LocalFile(pets / "2.png", "2.png", 4)], 0)


def test_a_link_to_the_pool_itself_is_followed(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(pets)
    assert local_files(tmp_path / "link") == local_files(pets)


@pytest.mark.parametrize("target", ["2.png", "cat", "missing", "/etc"])
def test_links_in_a_folder_are_refused(pets: Path, target: str) -> None:
    (pets / "link").symlink_to(target)
    with pytest.raises(InvalidInput, match=r"link' is no plain file"):
        local_files(pets)


def test_a_pipe_is_refused(pets: Path) -> None:
    os.mkfifo(pets / "pipe")
    with pytest.raises(InvalidInput, match=r"pipe' is no plain file"):
        local_files(pets)


def test_what_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(NotFound):
            local_files(path)
    with pytest.raises(InvalidInput, match="has no files"):
        local_files(tmp_path)


def test_too_many_files_are_refused(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILES_MAX", 1)
    with pytest.raises(LimitExceeded, match="more than 1 files"):
        local_files(pets)


def test_a_file_is_described_by_its_content_and_its_parts_are_read_back(tmp_path: Path) -> None:
    data = os.urandom(2 * PART_BYTES + 5)
    path, read = tmp_path / "a", list[int]()
    path.write_bytes(data)
    entry, parts = described(LocalFile(path, "a", len(data)), read.append)
    assert entry == uploaded("a", data)
    assert sum(read) == len(data)
    assert b"".join(map(read_part, parts)) == data


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    _, [part] = described(LocalFile(path, "a", 3), lambda _: None)
    path.write_bytes(b"two")
    for refused in (lambda: read_part(part), lambda: described(LocalFile(path, "a", 4), lambda _: None)):
        with pytest.raises(InvalidInput, match="changed while it was uploaded"):
            refused()


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1:50053", True),
        ("localhost:50053", True),
        ("[::1]:50053", True),
        ("unix:/run/oracle", True),
        ("dns:///localhost:1", True),
        ("ipv4:127.0.0.2:1", True),
        ("oracle:50053", False),
        ("10.0.0.1:50053", False),
        ("[2001:db8::1]:50053", False),
        ("dns:///oracle.example:1", False),
        ("127.0.0.1.example:1", False),
    ],
)
def test_an_address_is_on_this_machine_if_it_is_a_loopback_address(address: str, here: bool) -> None:
    assert is_this_machine(address) is here
