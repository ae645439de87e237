"""Files are opened without following links, whatever happens between checking a path and opening it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from labelloop.errors import InvalidInput, LabelloopError

from oracle_svc.datasets import DatasetSource, load
from oracle_svc.datasets.file_access import descriptor_of, entries_of, is_file, is_folder, open_file, status_of


def test_files_and_folders_are_read_by_their_paths(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "c.txt").write_text("text")
    with open_file(folder / "c.txt") as file:
        assert file.read() == b"text"
    assert entries_of(folder) == [folder / "c.txt"]
    assert status_of(folder / "c.txt").st_size == 4
    assert is_file(folder / "c.txt")
    assert is_folder(folder)
    assert is_folder(Path("/"))
    assert not is_file(folder / "d.txt")
    assert not is_folder(Path("nul\0"))


@pytest.mark.parametrize("linked", ["file", "folder", "folder above"])
def test_no_part_of_a_path_may_be_a_link(tmp_path: Path, linked: str) -> None:
    real = tmp_path / "real" / "inner"
    real.mkdir(parents=True)
    (real / "secret").write_text("s3cret")
    link = tmp_path / "link"
    link.symlink_to({"file": real / "secret", "folder": real, "folder above": real.parent}[linked])
    path = {"file": link, "folder": link / "secret", "folder above": link / "inner" / "secret"}[linked]
    assert path.read_text() == "s3cret"
    with pytest.raises(OSError, match=r"link|Not a directory"):
        descriptor_of(path)
    assert not is_file(path)
    if linked != "file":
        with pytest.raises(OSError, match="Not a directory"):
            entries_of(path.parent)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("make", [_pipe, _socket, Path.mkdir])
def test_what_is_no_regular_file_is_not_opened(
    tmp_path: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("x"))
    with pytest.raises(OSError, match="no regular file"):
        open_file(tmp_path / "x")


def test_no_descriptor_is_left_open_by_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208
    for _ in range(20):
        with pytest.raises(OSError, match="link"):
            open_file(tmp_path / "link")
        assert not is_file(tmp_path / "link" / "absent")
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208


def _refused(source: DatasetSource, tmp_path: Path) -> LabelloopError:
    with pytest.raises(LabelloopError) as refused:
        load(source, data_dir=None, cache_dir=tmp_path / "cache")
    return refused.value


@pytest.mark.parametrize("field", ["name", "labels", "evaluation", "evaluation_labels", "graph", "embeddings"])
@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_a_file_that_is_swapped_for_a_link_after_it_was_checked_is_not_read(
    tmp_path: Path, field: str, swapped: str
) -> None:
    outside, pools = tmp_path / "outside", tmp_path / "pools"
    outside.mkdir()
    np.save(outside / "x.npy", np.zeros((4, 2), np.float32))
    if swapped == "folder":
        pools.symlink_to(outside)
    else:
        pools.mkdir()
        (pools / "x.npy").symlink_to(outside / "x.npy")
    own = tmp_path / "own.npy"
    np.save(own, np.arange(8, dtype=np.float32).reshape(4, 2))
    named = {"name": str(own), "classes": ("a", "b"), field: str(pools / "x.npy")}
    named |= {"evaluation": str(own)} if field == "evaluation_labels" else {}
    error = _refused(DatasetSource(**named), tmp_path)  # type: ignore[arg-type]
    assert isinstance(error, InvalidInput) or error.reason == "NO_SUCH_FILE"
    assert error.field == field


def test_linked_class_folders_are_refused_and_no_class_is_lost(tmp_path: Path) -> None:
    pets = tmp_path / "pets"
    (pets / "cat").mkdir(parents=True)
    (tmp_path / "dogs").mkdir()
    (pets / "dog").symlink_to(tmp_path / "dogs")
    error = _refused(DatasetSource(str(pets)), tmp_path)
    assert (error.reason, error.field) == ("FOLDER_LINK", "name")
    assert "pets/dog is a link, and links are not followed: put there what it leads to" in error.message
