"""File names made of sample names."""

from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop_cli.output.file_names import FileNames

HOSTILE = st.text(st.sampled_from('./\\:*?"<>|\0\n aA\u202e\u00e9e\u0301\U0001f600'), max_size=12)


@pytest.mark.parametrize(
    ("name", "media_type", "expected"),
    [
        ("a.png", "image/png", "a.png"),
        ("a.JPEG", "image/jpeg", "a.JPEG"),
        ("a.tga", "image/png", "a.tga.png"),
        ("train/cat/a.png", "image/png", "train_cat_a.png"),
        ("../../etc/passwd", "image/png", "_.._etc_passwd.png"),
        ("/etc/passwd", "image/png", "_etc_passwd.png"),
        ("C:\\x.gif", "image/gif", "C__x.gif"),
        (".hidden", "image/webp", "hidden.webp"),
        ("..", "image/png", "_.png"),
        ("7", "image/png", "7.png"),
        ("con.png", "image/png", "_con.png"),
        ("a\u202egnp.exe", "image/png", "a_gnp.exe.png"),
        ("猫.png", "image/png", "猫.png"),
        ("x" * 300 + ".png", "image/png", "x" * 200 + ".png"),
        ("猫" * 100, "image/x-unknown", "猫" * 66 + ".bin"),
    ],
)
def test_a_file_is_named_like_its_sample(name: str, media_type: str, expected: str) -> None:
    assert FileNames().of(name, media_type) == expected


def test_names_that_would_be_one_file_get_numbers() -> None:
    files = FileNames()
    names = ["a/b.png", "a_b.png", "A_B.png", "a_b-2.png", "a_b"]
    assert [files.of(name, "image/png") for name in names] == [
        "a_b.png",
        "a_b-2.png",
        "A_B-3.png",
        "a_b-2-2.png",
        "a_b-4.png",
    ]


@given(st.lists(st.one_of(HOSTILE, st.text(st.characters(exclude_categories=["Cs"]))), max_size=8))
def test_every_name_gives_one_new_file_in_the_folder(names: list[str]) -> None:
    files = FileNames()
    found = [files.of(name, "image/png") for name in names]
    assert len({normalize("NFC", name).casefold() for name in found}) == len(names)
    for name in found:
        assert Path("folder", name).resolve().parent == Path("folder").resolve()
        assert len(name.encode()) <= 255
        assert name.lower().endswith(".png")
