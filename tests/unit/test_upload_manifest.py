"""Manifests of uploads, sound and hostile."""

from __future__ import annotations

import json

import pytest
from labelloop.artifacts import upload_manifest
from labelloop.artifacts.upload_manifest import PART_BYTES, UploadedFile, name_fault, read_manifest, write_manifest
from labelloop.errors import InvalidInput, LimitExceeded

from tests.memory_uploads import uploaded

DIGEST = "0" * 64


def line(**changes: object) -> bytes:
    return json.dumps({"name": "a", "size": 1, "sha256": DIGEST} | changes).encode() + b"\n"


def test_a_manifest_is_read_as_it_was_written_sorted_by_name() -> None:
    files = [uploaded("b/c.png", b"c"), uploaded("a.npy", bytes(2 * PART_BYTES + 1)), uploaded("b/Käfer", b"")]
    assert read_manifest(write_manifest(files)) == sorted(files, key=lambda file: file.name)


def test_equal_files_have_equal_manifests_in_any_order() -> None:
    files = [uploaded("b", b"1"), uploaded("a", b"2")]
    assert write_manifest(files) == write_manifest(files[::-1])


def test_a_file_of_several_parts_names_each_and_an_empty_one_none() -> None:
    assert len(uploaded("a", bytes(PART_BYTES + 1)).part_digests) == 2
    assert uploaded("a", b"x").part_digests == (uploaded("a", b"x").sha256,)
    assert uploaded("a", b"").part_digests == ()


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../a", "a/../b", "a//b", "a/", ".", "a/./b", "a\0b", "\ud800", "x" * 256, "a/" * 16 + "b"],
)
def test_a_name_that_is_no_plain_path_below_the_upload_is_refused(name: str) -> None:
    assert name_fault(name)
    with pytest.raises(InvalidInput, match="cannot be uploaded"):
        write_manifest([UploadedFile.model_construct(name=name, size=0, sha256=DIGEST, parts=())])


@pytest.mark.parametrize("name", ["a", "a/b.png", "..a", "a b", "Käfer", "a\\b", "x" * 255])
def test_other_names_are_accepted(name: str) -> None:
    assert not name_fault(name)


def test_a_name_that_is_a_file_and_a_folder_is_refused() -> None:
    with pytest.raises(InvalidInput, match="both a file and a folder"):
        write_manifest([uploaded("a", b"1"), uploaded("a-b", b"1"), uploaded("a/b", b"1")])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no files"),
        (b"{}\n", "line 1"),
        (b"[" * 10_000 + b"\n", "line 1"),
        (line().rstrip(), "no end"),
        (line() + line(), "sorted"),
        (line(name="b") + line(), "sorted"),
        (line(size=-1), "size"),
        (line(size=10**30), "size"),
        (line(size=2**62), "size"),
        (line(size=PART_BYTES + 1), "are not 1 parts"),
        (line(size=0, parts=[DIGEST]), "are not 1 parts"),
        (line(sha256="g" * 64), "sha256"),
        (line(more=1), "more"),
        (line(name="../a"), "plain path"),
        (line().replace(b'"a"', b'"\xff"'), "line 1"),
    ],
)
def test_a_manifest_that_is_not_sound_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_manifest(data)


def test_too_many_files_and_bytes_are_refused_before_they_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_manifest([uploaded("a", b"1"), uploaded("b", b"1")])
    monkeypatch.setattr(upload_manifest, "FILES_MAX", 1)
    with pytest.raises(LimitExceeded, match="at most 1 files"):
        read_manifest(data)
    monkeypatch.setattr(upload_manifest, "MANIFEST_BYTES_MAX", 10)
    with pytest.raises(LimitExceeded, match="shorten names"):
        read_manifest(data)
