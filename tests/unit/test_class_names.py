"""Which class a text means."""

from __future__ import annotations

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.domain.class_names import class_of, comparable, near_match, shortened
from labelloop.errors import InvalidInput

PETS = ["cat", "dog", "a guinea pig"]
CAFE = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"


@pytest.mark.parametrize(
    ("text", "classes", "index"),
    [
        ("dog", PETS, 1),
        ("  dog\t", PETS, 1),
        ("1", PETS, 1),
        ("1.0", PETS, 1),
        ("2,00", PETS, 2),
        ("1", ["1", "2", "3"], 0),
        ("3.0", ["1", "2", "3"], 2),
        ("7", ["003", "007"], 1),
        ("1", ["0", "1", "01"], 1),
        ("1.1", ["1.10", "1.20"], 0),
        ("-1", ["0", "-1"], 1),
        (normalize("NFD", CAFE), ["tea", CAFE], 1),
        (CAFE, ["tea", normalize("NFD", CAFE)], 1),
        ("nan", ["nan", "null"], 0),
    ],
)
def test_a_name_comes_before_an_equal_number_and_that_before_an_index(
    text: str, classes: list[str], index: int
) -> None:
    assert class_of(text, classes) == index


@pytest.mark.parametrize(
    ("text", "classes", "said"),
    [
        ("0", ["1", "2", "3"], "'0' is no class"),
        ("4", ["1", "2", "3"], "classes: '1', '2', '3'"),
        ("0", ["none", "1"], "'0' is no class"),
        ("3", PETS, "'3' is no class"),
        ("-1", PETS, "'-1' is no class"),
        ("1.5", PETS, "'1.5' is no class"),
        ("Dog", PETS, "did you mean 'dog'?"),
        ("guinea pig", PETS, "did you mean 'a guinea pig'?"),
        ("²", PETS, "'²' is no class"),
        ("٢", PETS, "'٢' is no class"),
        ("", PETS, "'' is no class"),
        ("1.0", ["1", "01"], "may mean the class '1' or '01'"),
        ("a", ["a", "a "], "may mean the class 'a' or 'a '"),
        ("9" * 500, PETS, "9…9"),
    ],
)
def test_a_text_that_means_no_class_or_several_is_refused(text: str, classes: list[str], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        class_of(text, classes)
    assert said in refused.value.message
    assert refused.value.field == "class"
    assert len(refused.value.message) < 300


def test_an_error_lists_at_most_ten_of_many_classes() -> None:
    with pytest.raises(InvalidInput, match=r"'n9' and 9990 more"):
        class_of("nothing", [f"n{number}" for number in range(10_000)])


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=2, unique_by=comparable), st.data())
def test_every_name_means_its_own_class_however_it_is_composed(classes: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(classes) - 1))
    composed = normalize("NFC", classes[index])
    given_name = data.draw(st.sampled_from([composed, normalize("NFD", classes[index])]))
    assert class_of(f" {given_name} ", classes) == index


def test_nothing_similar_gives_no_question() -> None:
    assert near_match("zebra", ["cat"]) == ""


@pytest.mark.parametrize("length", [1, 60, 61, 500])
def test_a_long_text_loses_its_middle(length: int) -> None:
    text = "a" + "x" * (length - 2) + "z" * (length > 1)
    cut = shortened(text)
    assert len(cut) == min(length, 60)
    assert (cut[0], cut[-1], "…" in cut) == (text[0], text[-1], length > 60)
